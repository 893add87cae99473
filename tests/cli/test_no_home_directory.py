"""A user id without an account, as in many containers: no home and no entry in passwd."""

from __future__ import annotations

import pwd
from collections.abc import Callable

import pytest
from support.cli_stub import Script, Stub, answer, in_order
from worker_cli.__main__ import main

Serve = Callable[[Script], Stub]


@pytest.fixture(params=["unset", "empty"])
def _homeless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("XDG_CONFIG_HOME", "NETRC", "WORKER_PROFILE", "WORKER_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HOME", raising=False)
    if request.param == "empty":
        monkeypatch.setenv("HOME", "")


@pytest.fixture
def _known(_homeless: None, monkeypatch: pytest.MonkeyPatch, authority: object) -> None:
    monkeypatch.setenv("WORKER_CACERT", str(authority.cert))  # type: ignore[attr-defined]
    monkeypatch.setenv("WORKER_USER", "ann")
    monkeypatch.setenv("WORKER_PASSWORD", "secret")


@pytest.mark.usefixtures("_known")
def test_the_environment_is_enough(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container, every command would fail because of a file that it does not need."""
    monkeypatch.setenv("WORKER_SERVER", serve(in_order(answer(200, {"user": "ann"}))).url)
    assert main(["whoami"]) == 0
    assert capsys.readouterr() == ("ann\n", "")


@pytest.mark.usefixtures("_homeless")
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("login", "https://localhost:1"), 2, "set HOME or XDG_CONFIG_HOME"),
        (("whoami",), 125, "set WORKER_USER and WORKER_PASSWORD"),
        (("whoami", "--profile", "lab"), 2, "without HOME and XDG_CONFIG_HOME there is no config"),
        (("logout",), 0, "there was no saved password"),
    ],
)
def test_the_missing_setting_is_named(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, message: str
) -> None:
    """The error would be reported as a bug, without saying which variable to set."""
    assert main(words) == code
    assert message in capsys.readouterr().err
