"""POST /jobs/run: how jobs are created, and which requests are refused."""

import base64
import gzip
import json

import pytest
from support.api import JSON, User, refused


def test_a_job_is_created_and_named(alice: User) -> None:
    """Nobody could run a job, or find it again."""
    answer = alice.post("/jobs/run", json={"command": "echo", "args": ["Hello,", "world!"]})
    assert answer.status_code == 201
    assert set(answer.json()) == {"id", "status"}
    job_id = answer.json()["id"]
    assert answer.headers["Location"] == f"/jobs/{job_id}"
    assert alice.ended(job_id)["status"] == "completed"
    assert alice.out(job_id) == b"Hello, world!\n"


def test_a_wrapped_job_is_the_same(alice: User) -> None:
    """Programs written for the wrapped form would have to change."""
    answer = alice.post("/jobs/run", json={"job": {"command": "echo", "args": ["wrapped"]}})
    assert answer.status_code == 201
    alice.ended(answer.json()["id"])
    assert alice.out(answer.json()["id"]) == b"wrapped\n"


def test_every_field_reaches_the_job(alice: User) -> None:
    """A job would run elsewhere or with other settings than requested."""
    job_id = alice.shell(
        'cat; pwd; echo "$GREETING"; echo problem >&2',
        env={"GREETING": "hello"},
        cwd="/usr",
        stdin="typed\n",
        name="everything",
        labels={"team": "blue"},
        timeout=20,
        stop_signal="INT",
        stop_grace=1.5,
        separate_stderr=True,
        output_limit=1000,
    )
    alice.ended(job_id)
    assert alice.out(job_id) == b"typed\n/usr\nhello\n"
    assert alice.out(job_id, "?stream=stderr") == b"problem\n"
    spec = alice.get(f"/jobs/{job_id}").json()["spec"]
    assert (
        spec.items()
        >= {
            "command": "/bin/sh",
            "args": ["-c", 'cat; pwd; echo "$GREETING"; echo problem >&2'],
            "env": {"GREETING": "hello"},
            "cwd": "/usr",
            "stdin": {"size": 6},
            "name": "everything",
            "labels": {"team": "blue"},
            "timeout": 20,
            "stop_signal": "SIGINT",
            "stop_grace": 1.5,
            "separate_stderr": True,
            "output_limit": 1000,
        }.items()
    )


def test_stdin_may_be_any_bytes(alice: User) -> None:
    """An archive as input would arrive damaged."""
    data = bytes(range(256))
    job_id = alice.run("cat", stdin={"base64": base64.b64encode(data).decode()})
    alice.ended(job_id)
    assert alice.out(job_id) == data


def test_an_argument_may_be_any_bytes(alice: User) -> None:
    """A file whose name is not UTF-8 could not be named, or would be shown as another."""
    body = rb'{"command": "printf", "args": ["%s", "a\udcffb"]}'
    job_id = alice.post("/jobs/run", data=body, headers=JSON).json()["id"]
    alice.ended(job_id)
    assert alice.out(job_id) == b"a\xffb"
    assert alice.get(f"/jobs/{job_id}").json()["spec"]["args"] == ["%s", "a\udcffb"]


def test_a_missing_command_makes_a_failed_job(alice: User) -> None:
    """A mistyped command would be an error without a record of it."""
    job_id = alice.run("echi", "hello")
    status = alice.ended(job_id)
    assert status["status"] == "failed"
    assert "echi: command not found" in status["reason"]
    assert b"echi: command not found" in alice.out(job_id)


def test_the_same_key_makes_one_job(alice: User, bob: User) -> None:
    """A request sent again after a lost answer would run the job twice."""
    job = {"command": "echo", "args": ["once"]}
    first = alice.post("/jobs/run", json=job, headers={"Idempotency-Key": "k1"})
    again = alice.post("/jobs/run", json=job, headers={"Idempotency-Key": "k1"})
    other = alice.post("/jobs/run", json=job, headers={"Idempotency-Key": "k2"})
    bobs = bob.post("/jobs/run", json=job, headers={"Idempotency-Key": "k1"})
    ids = [each.json()["id"] for each in (first, again, other, bobs)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_a_key_for_another_job_is_refused(alice: User) -> None:
    """A program that mixes up its keys would take one job for another."""
    key = {"Idempotency-Key": "reused"}
    alice.post("/jobs/run", json={"command": "true"}, headers=key)
    answer = alice.post("/jobs/run", json={"command": "false"}, headers=key)
    assert "reused" in refused(answer, 422, "idempotency_key_reused")["detail"]


def test_a_key_that_is_too_long_is_refused(alice: User) -> None:
    """It would be cut off, and two different keys would become one."""
    for key in ("", "k" * 256):
        answer = alice.post("/jobs/run", json={"command": "true"}, headers={"Idempotency-Key": key})
        refused(answer, 400, "malformed_request")


def test_unknown_fields_are_refused_by_name(alice: User) -> None:
    """A misspelt field would be ignored without a message."""
    answer = alice.post("/jobs/run", json={"command": "true", "timout": 5, "arg": []})
    document = refused(answer, 422, "invalid_job")
    assert [each["field"] for each in document["errors"]] == ["timout", "arg"]
    assert "timout" in document["detail"]


@pytest.mark.parametrize(
    ("job", "field"),
    [
        ({}, "command"),
        ({"command": None}, "command"),
        ({"command": ""}, "command"),
        ({"command": 7}, "command"),
        ({"command": "x", "args": "-l"}, "args"),
        ({"command": "x", "args": [1]}, "args[0]"),
        ({"command": "x", "args": [None]}, "args[0]"),
        ({"command": "x", "args": {"0": "a"}}, "args"),
        ({"command": "x", "env": []}, "env"),
        ({"command": "x", "env": {"A": 1}}, "env['A']"),
        ({"command": "x", "env": {"A=B": "c"}}, "env['A=B']"),
        ({"command": "x", "cwd": "relative"}, "cwd"),
        ({"command": "x", "stdin": {"base64": "§"}}, "stdin"),
        ({"command": "x", "stdin": {"hex": "00"}}, "stdin"),
        ({"command": "x", "name": ""}, "name"),
        ({"command": "x", "name": "n" * 256}, "name"),
        ({"command": "x", "labels": {"": "v"}}, "labels['']"),
        ({"command": "x", "timeout": 0}, "timeout"),
        ({"command": "x", "timeout": -1}, "timeout"),
        ({"command": "x", "timeout": "10"}, "timeout"),
        ({"command": "x", "timeout": True}, "timeout"),
        ({"command": "x", "timeout": 10**390}, "timeout"),
        ({"command": "x", "stop_signal": "NOPE"}, "stop_signal"),
        ({"command": "x", "stop_signal": 0}, "stop_signal"),
        ({"command": "x", "stop_signal": 65}, "stop_signal"),
        ({"command": "x", "stop_grace": -0.5}, "stop_grace"),
        ({"command": "x", "separate_stderr": 1}, "separate_stderr"),
        ({"command": "x", "output_limit": 1.5}, "output_limit"),
        ({"command": "x", "output_limit": -1}, "output_limit"),
        ([], ""),
        ("echo", ""),
        (None, ""),
        ({"job": None}, ""),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_what_no_job_can_be_is_refused(alice: User, job: object, field: str) -> None:
    """A mistake would become a job that does something else, or an error without a field."""
    answer = alice.post("/jobs/run", data=json.dumps(job), headers=JSON)
    document = refused(answer, 422, "invalid_job")
    assert field in [each["field"] for each in document["errors"]]


@pytest.mark.parametrize("text", [r'"\ud800"', r'"a\udfffb"', r'"\udc00"'])
@pytest.mark.parametrize(
    "place",
    [
        '"command": %s',
        '"command": "x", "args": [%s]',
        '"command": "x", "env": {"A": %s}',
        '"command": "x", "env": {%s: "a"}',
        '"command": "x", "labels": {%s: "a"}',
        '"command": "x", "cwd": "/", "name": %s',
        '"command": "x", "stdin": %s',
        '"command": "x", "stop_signal": %s',
        '"command": "x", "limits": {%s: 1}',
        '"command": "x", "limits": {"io": {%s: 1}}',
    ],
)
def test_half_a_character_is_refused(alice: User, place: str, text: str) -> None:
    """It cannot be an argument of a process, and would cause a server error."""
    body = "{" + place % text + "}"
    refused(alice.post("/jobs/run", data=body, headers=JSON), 422, "invalid_job")


def test_half_a_character_is_called_so(alice: User) -> None:
    """Nobody would know what is wrong with a text that looks right."""
    answer = alice.post("/jobs/run", data=r'{"command": "\ud800"}', headers=JSON)
    assert "surrogate" in refused(answer, 422, "invalid_job")["detail"]


def test_half_a_character_as_a_name_is_refused(alice: User) -> None:
    """The answer, which names the field, could not be written."""
    answer = alice.post("/jobs/run", data=r'{"command": "x", "\ud800": 1}', headers=JSON)
    assert refused(answer, 422, "invalid_job")["errors"][0]["field"] == "\ud800"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"{", "line 1, column 2"),
        (b"{'command': 'x'}", "line 1"),
        (b'{"command": "x"} trailing', "line 1"),
        (b'{"command": "\xff"}', "UTF-8"),
        (b'\xef\xbb\xbf{"command": "x"}', "BOM"),
        ('{"command": "x"}'.encode("utf-16"), "UTF-8"),
        (b'{"command": "x", "command": "y"}', "'command' occurs twice"),
        (b'{"command": "x", "env": {"A": "1", "A": "2"}}', "'A' occurs twice"),
        (b'{"command": "x", "timeout": NaN}', "NaN"),
        (b'{"command": "x", "timeout": -Infinity}', "-Infinity"),
        (b'{"command": "x", "args": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "deep"),
        (b'{"command": "x", "a": ' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"}", "deep"),
        (b'{"command": "x", "timeout": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"command": "a\nb"}', "line 1"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_json_is_refused(alice: User, body: bytes, words: str) -> None:
    """A broken client would get a server error, or a job that it did not mean."""
    answer = alice.post("/jobs/run", data=body, headers=JSON)
    assert words in refused(answer, 400, "malformed_request")["detail"]


@pytest.mark.parametrize("path", ["/jobs/run", "/jobs/{}/signal", "/jobs/{}/kill"])
def test_a_body_without_a_type_is_json(alice: User, path: str) -> None:
    """Clients that name no type would not work, although there is only one."""
    bodies = {"run": b'{"command": "true"}', "signal": b'{"signal": 18}', "kill": b'{"now": true}'}
    job_id = alice.shell("sleep 1000")
    method = "POST" if path == "/jobs/run" else "PUT"
    data = bodies[path.rpartition("/")[2]]
    answer = alice.request(method, path.format(job_id), data=data)
    assert "Content-Type" not in answer.request.headers
    assert answer.status_code in (200, 201), answer.text
    alice.put(f"/jobs/{job_id}/kill", json={"now": True})


def test_a_page_of_another_site_runs_no_job(alice: User) -> None:
    """A page of another site could run jobs as a user who is logged in."""
    headers = {"Origin": "https://evil.example"}
    answer = alice.post("/jobs/run", data=b'{"command": "true"}', headers=headers)
    refused(answer, 415, "unsupported_media_type")
    answer = alice.options("/jobs/run", headers=headers | {"Access-Control-Request-Method": "POST"})
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    "media",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/jsonx",
    ],
)
def test_other_media_types_are_refused_with_the_cure(alice: User, media: str) -> None:
    """The answer to `curl -d` would not say what to do."""
    headers = {"Content-Type": media}
    answer = alice.post("/jobs/run", data=b'{"command": "true"}', headers=headers)
    detail = refused(answer, 415, "unsupported_media_type")["detail"]
    assert "Content-Type: application/json" in detail


def test_a_compressed_body_is_refused(alice: User) -> None:
    """It would be reported as broken JSON."""
    body = gzip.compress(b'{"command": "true"}')
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = alice.post("/jobs/run", data=body, headers=headers)
    detail = refused(answer, 415, "unsupported_media_type")["detail"]
    assert detail.endswith("not compressed by gzip")
    headers["Content-Encoding"] = "identity"
    answer = alice.post("/jobs/run", data=b'{"command": "true"}', headers=headers)
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "media", ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"']
)
def test_ways_to_say_json(alice: User, media: str) -> None:
    """Clients that name the charset would be refused."""
    answer = alice.post("/jobs/run", data=b'{"command": "true"}', headers={"Content-Type": media})
    assert answer.status_code == 201


def test_a_body_over_the_limit_is_refused(alice: User) -> None:
    """One client could fill the server's memory."""
    body = b'{"command": "x", "stdin": "' + b"a" * (16 << 20) + b'"}'
    answer = alice.post("/jobs/run", data=body, headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


def test_a_body_of_the_limit_is_taken(alice: User) -> None:
    """The real limit would differ from the documented one."""
    body = b'{"command": "wc", "args": ["-c"], "stdin": "%s"}'
    room = (16 << 20) - len(body) + 2
    job_id = alice.post("/jobs/run", data=body % (b"a" * room), headers=JSON).json()["id"]
    alice.ended(job_id)
    assert alice.out(job_id) == b"%d\n" % room


def test_a_chunked_body_is_read(alice: User) -> None:
    """Clients that do not know the length beforehand could run nothing."""
    answer = alice.post("/jobs/run", data=iter([b'{"command":', b' "true"}']), headers=JSON)
    assert answer.status_code == 201


def test_no_body_has_parameters(alice: User) -> None:
    """An unknown parameter would be ignored without a message."""
    answer = alice.post("/jobs/run?wait=5", json={"command": "true"})
    assert refused(answer, 422, "invalid_request")["errors"][0]["field"] == "wait"


def test_many_faults_do_not_make_a_long_answer(alice: User) -> None:
    """One request could make the server write many times what it was sent."""
    answer = alice.post("/jobs/run", json={"command": "x", **{f"f{n}": 1 for n in range(5000)}})
    assert len(refused(answer, 422, "invalid_job")["errors"]) == 50
