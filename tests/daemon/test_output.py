"""GET /jobs/{id}/out: the bytes that a job wrote, all of them and no others."""

from pathlib import Path

import pytest
from support.api import OCTETS, Gate, User, refused
from support.waiting import wait_until


def written(user: User, data: bytes, directory: Path) -> str:
    """Return a finished job that wrote exactly these bytes."""
    (directory / "data").write_bytes(data)
    job_id = user.run("cat", str(directory / "data"))
    user.ended(job_id)
    return job_id


def test_the_document(alice: User, tmp_path: Path) -> None:
    """Programs that read a field would break."""
    job_id = written(alice, b"hello\n", tmp_path)
    answer = alice.get(f"/jobs/{job_id}/out")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {
        "id": job_id,
        "status": "completed",
        "output": "hello\n",
        "lossy": False,
        "size": 6,
        "start": 0,
        "next_offset": 6,
    }


def test_no_output_is_an_empty_text(alice: User) -> None:
    """A job without output would be an error, or null where a text is expected."""
    job_id = alice.run("true")
    alice.ended(job_id)
    assert alice.get(f"/jobs/{job_id}/out").json()["output"] == ""
    assert alice.out(job_id) == b""


@pytest.mark.parametrize("media", ["application/octet-stream", "text/plain"])
def test_every_byte_comes_back(alice: User, tmp_path: Path, media: str) -> None:
    """Archives and pictures would arrive broken."""
    data = bytes(range(256)) * 3 + b"no newline at the end"
    job_id = written(alice, data, tmp_path)
    answer = alice.get(f"/jobs/{job_id}/out", headers={"Accept": media})
    assert answer.headers["Content-Type"] == media
    assert answer.content == data
    assert answer.headers["Content-Length"] == str(len(data))
    assert answer.headers["X-Job-Status"] == "completed"
    assert answer.headers["X-Output-Start"] == "0"
    assert answer.headers["X-Output-Size"] == str(len(data))
    assert answer.headers["Vary"] == "Accept"


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("text/*", "text/plain"),
        ("application/octet-stream, application/json;q=0.9", "application/octet-stream"),
        ("image/png", "application/json"),
        ("//;;q=x", "application/json"),
    ],
)
def test_what_is_asked_for_is_sent(alice: User, tmp_path: Path, accept: str, media: str) -> None:
    """A browser or a program would get what it cannot show, or an error."""
    job_id = written(alice, b"x", tmp_path)
    answer = alice.get(f"/jobs/{job_id}/out", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == media


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xff", "\ufffd"),
        (b"a\xe4b", "a\ufffdb"),
        (b"\xe2\x82", "\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\xf0\x9f\x98\x80\x80", "\U0001f600\ufffd"),
    ],
)
def test_what_is_no_text_is_marked(alice: User, tmp_path: Path, data: bytes, text: str) -> None:
    """Replaced bytes would pass for what the job wrote."""
    told = alice.get(f"/jobs/{written(alice, data, tmp_path)}/out").json()
    assert (told["output"], told["lossy"], told["next_offset"]) == (text, True, len(data))


@pytest.mark.parametrize(
    "text", ["\ufffd", "\x00\x01\x1b[0m\x7f", '"\\/\b\f\n\r\t', "\u2028ä漢\U0001f600", "\ufeffx"]
)
def test_every_text_comes_back(alice: User, tmp_path: Path, text: str) -> None:
    """A text would be changed on its way, or be called damaged when it is not."""
    told = alice.get(f"/jobs/{written(alice, text.encode(), tmp_path)}/out").json()
    assert (told["output"], told["lossy"]) == (text, False)


@pytest.mark.parametrize("shift", range(4))
def test_long_texts_are_whole(alice: User, tmp_path: Path, shift: int) -> None:
    """Characters would break where the server's pieces of a long output meet."""
    text = "x" * shift + "\U0001f600ä漢" * 100_000
    told = alice.get(f"/jobs/{written(alice, text.encode(), tmp_path)}/out").json()
    assert told["output"] == text
    assert (told["lossy"], told["next_offset"]) == (False, len(text.encode()))


def test_damage_in_a_long_text(alice: User, tmp_path: Path) -> None:
    """One bad byte would cost the rest of the output, or stay unmentioned."""
    data = b"ab" * 200_000 + b"\xe2\x82" + b"c\xff" + "ä".encode() * 200_000
    told = alice.get(f"/jobs/{written(alice, data, tmp_path)}/out").json()
    assert told["output"] == data.decode(errors="replace")
    assert told["lossy"] is True
    assert told["next_offset"] == len(data)


def test_half_a_character_waits_for_its_rest(alice: User, tmp_path: Path) -> None:
    """A user who reads a running job piece by piece would see broken characters."""
    gate = Gate(tmp_path)
    job_id = alice.shell("printf 'a\\303'; read line < gate; printf '\\244b'", cwd=gate.directory)
    told = _once(alice, job_id, size=2)
    assert (told["output"], told["next_offset"], told["lossy"]) == ("a", 1, False)
    gate.open()
    alice.ended(job_id)
    assert alice.get(f"/jobs/{job_id}/out?offset=1").json()["output"] == "äb"


def test_a_running_job_is_read_at_once(alice: User, tmp_path: Path) -> None:
    """A look at the output of a running job would hang, or see nothing."""
    gate = Gate(tmp_path)
    job_id = alice.shell("echo one; read line < gate; echo two", cwd=gate.directory)
    told = _once(alice, job_id, size=4)
    assert (told["status"], told["output"], told["next_offset"]) == ("running", "one\n", 4)
    answer = alice.get(f"/jobs/{job_id}/out", headers=OCTETS)
    assert answer.content == b"one\n"
    assert answer.headers["X-Job-Status"] == "running"
    assert "ETag" not in answer.headers
    gate.open()
    alice.ended(job_id)
    assert alice.get(f"/jobs/{job_id}/out?offset=4").json()["output"] == "two\n"


def test_a_fast_writer_can_be_read(alice: User) -> None:
    """The answer would never end while the job writes faster than it is sent."""
    # Less than is kept of an output: of a job that writes more the answer may be broken off.
    job_id = alice.shell("yes | head -c 200000000; exec sleep 60")
    told = alice.get(f"/jobs/{job_id}/out").json()
    assert set(told["output"]) <= {"y", "\n"}
    assert told["next_offset"] == told["size"]
    answer = alice.get(f"/jobs/{job_id}/out", headers=OCTETS)
    assert len(answer.content) == int(answer.headers["X-Output-Size"])
    alice.put(f"/jobs/{job_id}/kill", json={"now": True})


@pytest.mark.parametrize(
    ("query", "data"),
    [
        ("offset=0", b"one\ntwo\nthree"),
        ("offset=4", b"two\nthree"),
        ("offset=13", b""),
        ("tail=0", b""),
        ("tail=1", b"three"),
        ("tail=2", b"two\nthree"),
        ("tail=3", b"one\ntwo\nthree"),
        ("tail=99999999999", b"one\ntwo\nthree"),
        ("stream=stdout", b"one\ntwo\nthree"),
        ("follow=false", b"one\ntwo\nthree"),
    ],
)
def test_parts(alice: User, tmp_path: Path, query: str, data: bytes) -> None:
    """A user who reads on from where they were, or only the end, would get other bytes."""
    job_id = written(alice, b"one\ntwo\nthree", tmp_path)
    assert alice.out(job_id, f"?{query}") == data
    told = alice.get(f"/jobs/{job_id}/out?{query}").json()
    assert told["output"] == data.decode()
    assert told["next_offset"] == told["size"] == 13


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("offset=-1", "offset"),
        ("offset=1.5", "offset"),
        ("offset=x", "offset"),
        ("tail=-1", "tail"),
        ("offset=1&tail=1", "tail"),
        ("stream=both", "stream"),
        ("follow=yes", "follow"),
        ("format=raw", "format"),
    ],
)
def test_what_is_no_part(alice: User, query: str, field: str) -> None:
    """A mistake would be answered with other bytes than were meant."""
    answer = alice.get(f"/jobs/{alice.run('true')}/out?{query}")
    assert refused(answer, 422, "invalid_request")["errors"][0]["field"] == field


def test_past_the_end(alice: User, tmp_path: Path) -> None:
    """A user who has more bytes than there are would never learn that something is wrong."""
    answer = alice.get(f"/jobs/{written(alice, b'12345', tmp_path)}/out?offset=6")
    assert "5 bytes" in refused(answer, 416, "range_not_satisfiable")["detail"]


def test_stderr_is_part_of_the_output(alice: User) -> None:
    """Messages would be missing, or stand elsewhere than they were written."""
    job_id = alice.shell("echo out; echo err >&2; echo out")
    alice.ended(job_id)
    assert alice.out(job_id) == b"out\nerr\nout\n"
    answer = alice.get(f"/jobs/{job_id}/out?stream=stderr")
    assert "separate_stderr" in refused(answer, 409, "stream_not_separate")["detail"]


@pytest.mark.parametrize(
    ("asked", "first", "data"),
    [
        ("bytes=0-0", 0, b"0"),
        ("bytes=2-4", 2, b"234"),
        ("bytes=7-", 7, b"789"),
        ("bytes=7-999", 7, b"789"),
        ("bytes=-3", 7, b"789"),
        ("bytes=-999", 0, b"0123456789"),
        ("Bytes=9-", 9, b"9"),
    ],
)
def test_ranges(alice: User, tmp_path: Path, asked: str, first: int, data: bytes) -> None:
    """A resumed download would continue with other bytes."""
    job_id = written(alice, b"0123456789", tmp_path)
    answer = alice.get(f"/jobs/{job_id}/out", headers={**OCTETS, "Range": asked})
    assert answer.status_code == 206
    assert answer.content == data
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(data) - 1}/10"
    assert answer.headers["Content-Length"] == str(len(data))


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", f"bytes={'9' * 50}-"])
def test_ranges_past_the_end(alice: User, tmp_path: Path, asked: str) -> None:
    """A download that has everything would begin again."""
    job_id = written(alice, b"0123456789", tmp_path)
    answer = alice.get(f"/jobs/{job_id}/out", headers={**OCTETS, "Range": asked})
    refused(answer, 416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == "bytes */10"


@pytest.mark.parametrize(
    "asked", ["bytes=0-0,2-3", "lines=1-2", "bytes=5-2", "bytes=-", "bytes", "", "bytes=a-b"]
)
def test_ranges_that_are_none_are_ignored(alice: User, tmp_path: Path, asked: str) -> None:
    """The standard lets a server send the whole; another part would be wrong."""
    job_id = written(alice, b"0123456789", tmp_path)
    answer = alice.get(f"/jobs/{job_id}/out", headers={**OCTETS, "Range": asked})
    assert (answer.status_code, answer.content) == (200, b"0123456789")


def test_a_range_counts_within_the_part(alice: User, tmp_path: Path) -> None:
    """A resumed download of a part would continue at another offset."""
    job_id = written(alice, b"0123456789", tmp_path)
    answer = alice.get(f"/jobs/{job_id}/out?offset=4", headers={**OCTETS, "Range": "bytes=1-2"})
    assert (answer.content, answer.headers["Content-Range"]) == (b"56", "bytes 1-2/6")


def test_a_range_of_a_running_job(alice: User, tmp_path: Path) -> None:
    """Only finished jobs could be read in parts."""
    gate = Gate(tmp_path)
    job_id = alice.shell("printf 0123456789; read line < gate", cwd=gate.directory)
    _once(alice, job_id, size=10)
    answer = alice.get(f"/jobs/{job_id}/out", headers={**OCTETS, "Range": "bytes=3-4"})
    assert (answer.status_code, answer.content) == (206, b"34")
    gate.open()


def test_what_is_known_is_not_sent_again(alice: User, tmp_path: Path) -> None:
    """A cache would load the same output again and again."""
    job_id = written(alice, b"0123456789", tmp_path)
    first = alice.get(f"/jobs/{job_id}/out", headers=OCTETS)
    tag = first.headers["ETag"]
    for known in (tag, f'"other", {tag}', "*", f"W/{tag}"):
        again = alice.get(f"/jobs/{job_id}/out", headers={**OCTETS, "If-None-Match": known})
        assert (again.status_code, again.content) == (304, b""), known
        assert again.headers["ETag"] == tag
    other = alice.get(f"/jobs/{job_id}/out", headers={**OCTETS, "If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, b"0123456789")
    part = alice.get(f"/jobs/{job_id}/out?offset=1", headers={**OCTETS, "If-None-Match": tag})
    assert (part.status_code, part.content) == (200, b"123456789")


def test_a_range_of_what_has_changed(alice: User, tmp_path: Path) -> None:
    """A download would be put together from parts of different outputs."""
    job_id = written(alice, b"0123456789", tmp_path)
    tag = alice.get(f"/jobs/{job_id}/out", headers=OCTETS).headers["ETag"]
    asked = {**OCTETS, "Range": "bytes=5-", "If-Range": tag}
    assert alice.get(f"/jobs/{job_id}/out", headers=asked).content == b"56789"
    asked["If-Range"] = '"another"'
    assert alice.get(f"/jobs/{job_id}/out", headers=asked).content == b"0123456789"


@pytest.mark.parametrize("headers", [OCTETS, {}])
def test_the_head_alone(alice: User, tmp_path: Path, headers: dict[str, str]) -> None:
    """The size of an output could only be learned by loading it."""
    job_id = written(alice, b"0123456789", tmp_path)
    whole = alice.get(f"/jobs/{job_id}/out", headers=headers)
    answer = alice.head(f"/jobs/{job_id}/out", headers=headers)
    assert (answer.status_code, answer.content) == (200, b"")
    for name in ("Content-Length", "Content-Type", "X-Output-Size"):
        assert answer.headers[name] == whole.headers[name]


def test_a_long_output_goes_as_a_file(alice: User, tmp_path: Path) -> None:
    """A long output would be cut short, or hold a thread for as long as a slow client reads."""
    data = bytes(range(256)) * 40_000
    job_id = written(alice, data, tmp_path)
    assert alice.out(job_id) == data
    assert alice.out(job_id, "?offset=10000000") == data[10_000_000:]
    answer = alice.get(f"/jobs/{job_id}/out", headers={**OCTETS, "Range": "bytes=100-5000000"})
    assert answer.content == data[100:5_000_001]


def test_the_oldest_bytes_are_given_up(alice: User, tmp_path: Path) -> None:
    """A user who reads a capped output would take the rest for the beginning."""
    gate = Gate(tmp_path)
    job_id = alice.shell("seq 1 200000; read line < gate", cwd=gate.directory, output_limit=100_000)
    path = f"/jobs/{job_id}/out"
    wait_until(lambda: int(alice.head(path).headers["X-Output-Start"]) > 1_000_000)
    whole = b"".join(b"%d\n" % n for n in range(1, 200_001))
    for _ in ("while it runs", "when it has ended"):
        answer = alice.get(path, headers=OCTETS)
        start = int(answer.headers["X-Output-Start"])
        assert int(answer.headers["X-Output-Size"]) == len(whole)
        assert answer.content == whole[start:]
        assert alice.out(job_id, "?offset=5") == whole[start:]
        told = alice.get(path).json()
        assert told["start"] == start
        assert told["output"] == whole[start:].decode()
        if told["status"] == "running":
            gate.open()
            alice.ended(job_id)


def _once(user: User, job_id: str, *, size: int) -> dict[str, object]:
    """Return the document of a job once it has written `size` bytes."""

    def enough() -> dict[str, object] | None:
        told: dict[str, object] = user.get(f"/jobs/{job_id}/out").json()
        return told if told["size"] == size else None

    told = wait_until(enough)
    assert told is not None
    return told
