"""JobSpec: which values are refused with which message, and that all others are kept."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_core import InvalidSpec, Isolation, JobSpec, Limits
from worker_core.model import limits, signals, spec
from worker_core.model.errors import MOST_FAULTS

REFUSED = [
    ([], "", "must be an object"),
    ({}, "command", "required"),
    ({"command": None}, "command", "required"),
    ({"command": ""}, "command", "must not be empty"),
    ({"command": 5}, "command", "must be a text, not a number"),
    ({"args": "ls"}, "args", "must be a list of texts, not a text"),
    ({"args": [1]}, "args[0]", "must be a text, not a number"),
    ({"args": ["a", None]}, "args[1]", "must be a text, not null"),
    ({"args": ["\ud800"]}, "args[0]", "lone surrogate"),
    ({"env": []}, "env", "must be an object of texts, not a list"),
    ({"env": {"A": 1}}, "env['A']", "must be a text"),
    ({"env": {"": "x"}}, "env['']", "must not be empty"),
    ({"env": {"A=B": "x"}}, "env['A=B']", "must not contain '='"),
    ({"cwd": "here"}, "cwd", "must be an absolute path"),
    ({"cwd": ""}, "cwd", "must not be empty"),
    ({"cwd": 1}, "cwd", "must be a text"),
    ({"stdin": 1}, "stdin", "must be a text or"),
    ({"stdin": {"base64": "%"}}, "stdin", "not valid base64"),
    ({"stdin": {"base64": "YQ==", "x": 1}}, "stdin", "must be a text or"),
    ({"stdin": "\ud800"}, "stdin", "lone surrogate"),
    ({"name": ""}, "name", "must not be empty"),
    ({"name": "x" * 256}, "name", "at most 255 characters"),
    ({"labels": {"a": 1}}, "labels['a']", "must be a text"),
    ({"labels": {"a=b": "c"}}, "labels['a=b']", "must not contain '='"),
    ({"labels": {"a": "x" * 256}}, "labels['a']", "at most 255 characters"),
    ({"labels": {str(n): "" for n in range(65)}}, "labels", "must have at most 64 entries"),
    ({"timeout": 0}, "timeout", "number of seconds above 0"),
    ({"timeout": -1}, "timeout", "number of seconds above 0"),
    ({"timeout": True}, "timeout", "must be a number of seconds, not true or false"),
    ({"timeout": "1"}, "timeout", "must be a number of seconds, not a text"),
    ({"timeout": float("inf")}, "timeout", "number of seconds above 0"),
    ({"timeout": float("nan")}, "timeout", "number of seconds above 0"),
    ({"stop_signal": "NOPE"}, "stop_signal", "invalid signal 'NOPE'"),
    ({"stop_signal": "RTMIN+99"}, "stop_signal", "invalid signal"),
    ({"stop_signal": "TERM+1"}, "stop_signal", "invalid signal"),
    ({"stop_signal": 0}, "stop_signal", "invalid signal 0"),
    ({"stop_signal": 65}, "stop_signal", "invalid signal 65"),
    ({"stop_signal": True}, "stop_signal", "invalid signal True"),
    ({"stop_grace": -0.1}, "stop_grace", "number of seconds from 0 and up to 3153600000"),
    ({"separate_stderr": 1}, "separate_stderr", "must be true or false"),
    ({"output_limit": -1}, "output_limit", "must be from 0 to 4611686018427387904 bytes"),
    ({"output_limit": 1.5}, "output_limit", "must be a whole number of bytes"),
    ({"comand": "ls"}, "comand", "unknown field; known are after, args, command, cwd"),
    ({"c" * 999: "ls"}, "c" * 100 + "…", "unknown field"),
    ({"command": "x" * (spec.MAX_STRING + 1)}, "command", f"at most {spec.MAX_STRING} bytes"),
    ({"args": ["é" * (spec.MAX_STRING // 2 + 1)]}, "args[0]", f"most {spec.MAX_STRING} bytes"),
    ({"env": {"A": "x" * (spec.MAX_STRING - 1)}}, "env['A']", f"at most {spec.MAX_STRING} bytes"),
    ({"env": {"k" * (1 << 21): ""}}, "env['" + "k" * 100 + "'… (2097152 characters)]", "at most"),
    ({"args": ["x" * 100_000] * 63}, "args", f"must be at most {spec.MAX_STRINGS} bytes"),
    ({"args": [""] * (spec.MAX_STRINGS // 9)}, "args", "together with env, as execve(2) counts"),
    ({"env": {str(n): "x" * 100_000 for n in range(63)}}, "args", "give the job a file or its st"),
    ({"cwd": "/" * 4096}, "cwd", "must be at most 4095 bytes"),
    ({"isolation": {"read_only": True, "writable": ["/" * 4096]}}, "isolation.writable[0]",
     "must be an absolute path of at most 4095 bytes"),
    ({"isolation": {"read_only": True, "writable": ["/a"] * 257}}, "isolation.writable",
     "must be at most 256 paths"),
    ({"isolation": {"x" * 999: True}}, "isolation", "x" * 100 + "…: unknown field"),
    ({"stop_signal": "x" * 999}, "stop_signal", "(999 characters)"),
    ({"stop_signal": [[]] * 999}, "stop_signal", "invalid signal a list"),
]  # fmt: skip


@pytest.mark.parametrize(("given_object", "field", "message"), REFUSED)
def test_what_is_refused_names_the_field(given_object, field, message):
    """A user would not learn what to correct."""
    if isinstance(given_object, dict) and given_object and "command" not in given_object:
        given_object = {"command": "true", **given_object}
    with pytest.raises(InvalidSpec) as caught:
        JobSpec.from_dict(given_object)
    (error,) = caught.value.errors
    assert error.field == field
    assert message in error.message
    assert str(caught.value).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stdin": "text"}, "stdin: must be bytes or a Path, not a text"),
        ({"stdin": 5}, "stdin: must be bytes or a Path, not a number"),
        ({"limits": {}}, "limits: must be Limits, not an object"),
        ({"isolation": None}, "isolation: must be Isolation, not null"),
        ({"args": "ab"}, "args: must be a list of texts, not a text"),
        ({"args": [b"a"]}, r"args\[0\]: must be a text, not bytes"),
        ({"env": {1: "x"}}, r"env\[1\]: as a name: must be a text"),
        ({"stop_signal": None}, "stop_signal: invalid signal None"),
        ({"timeout": 10**400}, "timeout: must be a number of seconds above 0 and up to 3153600000"),
        ({"limits": Limits(memory=1 << 63)}, f"limits.memory: must be at most {1 << 62}"),
        ({"limits": Limits(cpus=float("nan"))}, "limits.cpus: must be at least 0.01"),
        ({"limits": Limits(cpus=2e9)}, "limits.cpus: must be at most 1000000000"),
        ({"output_limit": 1 << 63}, "output_limit: must be from 0 to 4611686018427387904 bytes"),
    ],
)
def test_a_program_is_refused_like_a_request(options, message):
    """A wrong value from a Python program would fail somewhere far away."""
    with pytest.raises(InvalidSpec, match=message):
        JobSpec("true", **options)


def test_what_was_given_may_be_changed_afterwards():
    """A queued job would run with what its caller did later."""
    args, env, labels = ["a"], {"A": "1"}, {"l": "1"}
    spec = JobSpec("true", args, env=env, labels=labels)
    args.append("b")
    env["B"] = labels["m"] = "2"
    assert (spec.args, spec.env, spec.labels) == (("a",), {"A": "1"}, {"l": "1"})


def test_everything_that_is_wrong_is_told_at_once():
    """A user would correct one field after another."""
    with pytest.raises(InvalidSpec) as caught:
        JobSpec.from_dict({"args": 1, "timeout": 0, "stdin": 1, "nice": 5, "limits": 5})
    fields = {error.field for error in caught.value.errors}
    assert fields == {"command", "args", "timeout", "stdin", "nice", "limits"}


MANY = {
    "args": {"args": [[]] * 1000},
    "env": {"env": {f"={n}": n for n in range(1000)}},
    "labels": {"labels": {f"={n}": n for n in range(64)}},
    "writable": {"isolation": {"read_only": True, "writable": ["x"] * 200}},
    "unknown": {str(n): n for n in range(1000)},
    "all": {"args": [[]] * 1000, "env": {f"={n}": n for n in range(1000)}, "x": 1, "timeout": 0},
}


@pytest.mark.parametrize("job", MANY.values(), ids=MANY)
def test_so_many_faults_are_named_and_no_more_looked_for(job):
    """A body of 15 MiB of `[]` as arguments took 17 s and 2.7 GB, for a fault of each."""
    with pytest.raises(InvalidSpec) as caught:
        JobSpec.from_dict({"command": "ls"} | job)
    assert len(caught.value.errors) == MOST_FAULTS


class Counted(list):
    """A list that counts how many elements were looked at."""

    seen = 0

    def __iter__(self):
        for each in super().__iter__():
            self.seen += 1
            yield each


def test_what_comes_after_the_last_fault_is_not_looked_at():
    """The time that a refusal takes would grow with the body."""
    args = Counted([[]] * 1000)
    with pytest.raises(InvalidSpec):
        JobSpec("ls", args)
    assert args.seen == MOST_FAULTS


@pytest.mark.parametrize(
    "job",
    [
        {"args": ["x" * spec.MAX_STRING]},
        {"args": ["\udcff" * spec.MAX_STRING]},
        {"env": {"A": "x" * (spec.MAX_STRING - 2)}},
        {"args": ["x" * 100_000] * 62},
        {"cwd": "/" * 4095},
    ],
)
def test_what_some_machine_takes_is_accepted(job):
    """A job that ran before would be refused."""
    assert JobSpec.from_dict({"command": "true"} | job)


def test_null_is_the_same_as_nothing():
    """A client that sends every field would be refused."""
    names = ["args", "env", "cwd", "stdin", "name", "labels", "timeout", "limits", "isolation"]
    assert JobSpec.from_dict({"command": "ls"} | dict.fromkeys(names)) == JobSpec("ls")


def test_a_nul_byte_is_no_error_of_the_request():
    """The job would not exist, though the API promises one that failed."""
    assert JobSpec.from_dict({"command": "a\0", "args": ["\0"]}).args == ("\0",)


def test_stdin_comes_as_text_or_as_base64():
    """Bytes that are not text could not be sent."""
    assert JobSpec.from_dict({"command": "cat", "stdin": "é\udcff"}).stdin == b"\xc3\xa9\xff"
    assert JobSpec.from_dict({"command": "cat", "stdin": {"base64": "/wA="}}).stdin == b"\xff\0"
    assert JobSpec.from_dict({"command": "cat", "stdin": ""}).stdin == b""


@pytest.mark.parametrize(("given_signal", "name"), [("TERM", "SIGTERM"), ("sigint", "SIGINT"),
                                              (9, "SIGKILL"), ("15", "SIGTERM"),
                                              (37, "SIGRTMIN+3"),
                                              ("rtmin+3", "SIGRTMIN+3")])  # fmt: skip
def test_signals_have_one_form(given_signal, name):
    """The same wish would be stored in different ways."""
    assert JobSpec("true", stop_signal=given_signal).stop_signal == name


@pytest.mark.parametrize(
    ("signum", "reason"),
    [
        (9, "ended by signal SIGKILL (9)"),
        (32, "ended by signal 32"),
        (33, "ended by signal 33"),
        (36, "ended by signal SIGRTMIN+2 (36)"),
    ],
)
def test_signals_without_a_name_are_told_by_number(signum, reason):
    """`kill -32` would be shown as SIGRTMIN+-2."""
    assert signals.failure_reason(None, signum) == reason


def test_a_spec_never_shows_its_input():
    """A secret on stdin would be readable in the record."""
    shown = JobSpec("cat", stdin=b"secret").to_dict()
    assert shown["stdin"] == {"size": 6}
    assert "secret" not in json.dumps(shown)


# Any text, and what stands for raw bytes.
TEXT = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    max_size=20,
)


@given(
    command=TEXT.filter(bool),
    args=st.lists(TEXT, max_size=5),
    env=st.dictionaries(TEXT.filter(lambda key: key and "=" not in key), TEXT, max_size=3),
    timeout=st.none() | st.floats(0.001, 1e9),
    stdin=st.none() | st.just(Path("/dev/null")),
    output_limit=st.none() | st.integers(0, 1 << 40),
)
def test_a_spec_is_the_same_after_the_store(command, args, env, timeout, stdin, output_limit):
    """A queued job would run as another one after a restart."""
    spec = JobSpec(command, args, env=env, timeout=timeout, stdin=stdin, output_limit=output_limit)
    stored = json.loads(json.dumps(spec.to_dict()))
    assert JobSpec.from_stored(stored) == spec


def test_an_input_file_below_a_removed_directory_is_refused_by_name(tmp_path, monkeypatch):
    """A program would end with an error that names no file."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(InvalidSpec, match="stdin: must be an absolute path: the working directory"):
        JobSpec("cat", stdin=Path("input"))


@pytest.mark.parametrize(
    ("kind", "rules"),
    [
        (JobSpec, spec.RULES),
        (Limits, limits.RULES_OF[Limits]),
        (Isolation, limits.RULES_OF[Isolation]),
    ],
)
def test_each_field_has_a_rule(kind, rules):
    """A new field would be accepted with any value, and be missing in the API's description."""
    assert [*rules] == [each.name for each in dataclasses.fields(kind)]
    assert all(rule.schema() for rule in rules.values())


def test_a_long_list_of_paths_is_refused():
    """The description of the API has the maximum, too."""
    paths = [f"/{at}" for at in range(limits.MAX_PATHS + 1)]
    with pytest.raises(InvalidSpec, match="writable: must be at most 256 paths"):
        JobSpec("true", isolation=Isolation(read_only=True, writable=paths))
