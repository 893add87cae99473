"""Text that stands for bytes means the same bytes in every locale."""

import os
import subprocess
import sys

import pytest
from support.core import run
from worker_core import Engine, JobSpec, State
from worker_core.model import encoding

TEXTS = ["µ", "漢", "\udcff\udcfe", "plain"]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(params=["forked into a cgroup", "spawned"])
def engine(request, monkeypatch):
    """An engine whose supervisor was started in a locale without any letter but ASCII's."""
    if request.param == "spawned":
        monkeypatch.setenv("WORKER_CGROUPS", "off")
    for name, value in ASCII.items():
        monkeypatch.setenv(name, value)
    with Engine() as engine:
        yield engine


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_is_the_same_bytes_again(text):
    """A file name that was listed could not be opened."""
    assert encoding.decode(encoding.encode(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_a_job_gets_utf8_in_every_locale(engine, tmp_path, text):
    """Under LANG=de_DE.ISO-8859-1 or LC_ALL=C a "µ" would arrive as another byte, or not at all."""
    directory = tmp_path / text
    directory.mkdir()
    (directory / text).write_bytes(b"input")
    script = 'printf "%s\\n" "$1" "$GIVEN" "$PWD"; cat'
    job = run(
        engine,
        JobSpec(
            "sh",
            ["-c", script, "sh", text],
            env={"GIVEN": text},
            cwd=str(directory),
            stdin=directory / text,
        ),
    )
    assert job.state is State.COMPLETED, job
    argument, given, cwd, rest = engine.read_output(job.id).split(b"\n")
    wanted = encoding.encode(text)
    assert (argument, given, cwd, rest) == (wanted, wanted, bytes(directory), b"input")


def test_a_program_with_such_a_name_starts_or_is_named(engine, tmp_path):
    """A script called "漢" would be not found, or fail with an error about codecs."""
    script = tmp_path / "漢"
    script.write_text("#!/bin/sh\nexit 7\n")
    script.chmod(0o755)
    assert run(engine, JobSpec(str(script))).exit_code == 7
    missing = run(engine, JobSpec(f"{script}µ"))
    assert missing.reason == f"{script}µ: no such file or directory"
    assert missing.reason.encode() + b"\n" == engine.read_output(missing.id)


def test_a_program_executes_itself_again_only_where_it_must():
    """Every start would cost the time of two, or would never come to an end."""
    program = "import sys; from worker_core.model import encoding; encoding.use_utf8()"
    program += "; print(sys.flags.utf8_mode, sys.getfilesystemencoding(), *sys.argv[1:])"
    argv = [sys.executable, "-c", program, "µ"]

    def shown(**environment):
        given = os.environ | environment
        return subprocess.run(argv, env=given, check=True, capture_output=True).stdout

    assert shown(**ASCII) == "1 utf-8 µ\n".encode()
    assert shown(LC_ALL="C.UTF-8", PYTHONUTF8="0") == "0 utf-8 µ\n".encode()
