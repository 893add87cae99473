"""The `workerd` command as an administrator types it."""

import datetime
import io
import os
import pwd
import socket
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout

import bcrypt
import pexpect
import pytest
from support.daemon import CERTS, Daemon
from support.terminal import ends
from worker_daemon import __version__
from worker_daemon.__main__ import main
from worker_daemon.auth import htpasswd, verifier
from worker_daemon.command import ca
from worker_daemon.edge.tls import contexts

ARGV = [sys.executable, "-m", "worker_daemon"]
# Nothing of this machine's settings, and the words of the C locale.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.endswith("_DIRECTORY") and not name.startswith(("WORKER", "XDG_"))
}


def run(*arguments, stdin=b"", directory=None):
    """Run `workerd` and return the completed process."""
    return subprocess.run(
        [*ARGV, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=30,
        cwd=directory,
        env=ENVIRONMENT,
        check=False,
    )


def ok(*arguments, stdin=b""):
    """Run `workerd`, which must succeed, and return its stdout."""
    done = run(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def refused(*arguments, stdin=b"", code=1):
    """Run `workerd`, which must fail without a traceback, and return its stderr."""
    done = run(*arguments, stdin=stdin)
    assert done.returncode == code, done.stderr.decode()
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr
    return done.stderr.decode()


@pytest.fixture
def file(tmp_path):
    """The path of the users file."""
    return tmp_path / "users"


def user(file, *arguments, **kwargs):
    """Return the arguments of `workerd user`."""
    return ["user", f"--users={file}", *arguments]


def add(file, name, password):
    """Add a user with a quick hash."""
    stdin = password.encode() + b"\n"
    ok(*user(file, "add", name, "--password-stdin", "--cost=4"), stdin=stdin)


# Users


def test_a_user_is_added_listed_changed_and_removed(file):
    """Nobody could be let in, or shut out again."""
    add(file, "alice", "wonderland")
    add(file, "zoë", "two words ")
    assert ok(*user(file, "list")) == "alice\nzoë\n"
    known = verifier.Verifier(file)
    assert known.verify("zoë", b"two words ", "::1").accepted
    stdin = b"a new one\n"
    ok(*user(file, "passwd", "zoë", "--password-stdin", "--cost=4"), stdin=stdin)
    assert not known.verify("zoë", b"two words ", "::1").accepted
    assert known.verify("zoë", b"a new one", "::1").accepted
    ok(*user(file, "remove", "alice"))
    assert ok(*user(file, "list")) == "zoë\n"


def test_a_short_password_that_is_in_use_goes_on_to_work(file):
    """After an upgrade, users with a short password could not log in."""
    with htpasswd.editing(file) as known:
        known["alice"] = htpasswd.hash_password(b"x", 4)
    assert verifier.Verifier(file).verify("alice", b"x", "::1").accepted


def test_the_cost_is_twelve_unless_said_otherwise(file):
    """Passwords would be quick to guess if the file is stolen."""
    ok(*user(file, "add", "alice", "--password-stdin"), stdin=b"wonderland\n")
    assert file.read_text().startswith("alice:$2b$12$")


def test_only_the_first_line_is_the_password(file):
    """A password piped in by echo would have the newline in it."""
    ok(*user(file, "add", "a", "--password-stdin", "--cost=4"), stdin=b"first line\r\ntwo\n")
    assert bcrypt.checkpw(b"first line", file.read_bytes().split(b":")[1].strip())


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (
            ["add", "alice", "--password-stdin"],
            b"wonderland\n",
            "alice exists; `workerd user passwd alice`",
        ),
        (
            ["add", "a:b", "--password-stdin"],
            b"wonderland\n",
            "'a:b' is not a user name: it has a colon",
        ),
        (["add", "", "--password-stdin"], b"wonderland\n", "'' is not a user name: it is empty"),
        (
            ["add", "a\udcffb", "--password-stdin"],
            b"wonderland\n",
            "is not a user name: it is not UTF-8",
        ),
        (["add", "bob", "--password-stdin"], b"\n", "the password is empty"),
        (
            ["add", "bob", "--password-stdin"],
            b"x\n",
            "the password has 1 character; choose one wit",
        ),
        (
            ["passwd", "alice", "--password-stdin"],
            b"1234567\n",
            "has 7 characters; choose one with",
        ),
        (["add", "bob", "--password-stdin"], b"x" * 73, "the password has 73 bytes; bcrypt takes"),
        (["add", "bob"], b"", "there is no terminal to ask for a password; use --password-stdin"),
        (
            ["passwd", "bob", "--password-stdin"],
            b"wonderland\n",
            "there is no user 'bob'; `workerd user list`",
        ),
        (["remove", "bob"], b"", "there is no user 'bob'"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(file, arguments, stdin, message):
    """The administrator would believe that it was done."""
    add(file, "alice", "wonderland")
    before = file.read_bytes()
    assert message in refused(*user(file, *arguments), stdin=stdin)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("mended", "said"),
    [
        (["passwd", "bob", "--password-stdin", "--cost=4"], "changed the password of bob"),
        (
            ["remove", "bob"],
            "removed bob; running jobs of bob keep running, and waiting jobs still start",
        ),
    ],
)
@pytest.mark.parametrize("line", ["bob", "bob:x", "bob:$2b$04$x\nbob"])
def test_a_bad_line_is_mended_by_what_its_fault_advises(file, mended, said, line):
    """The command in the message would fail with the same message, and nobody could log in."""
    add(file, "alice", "wonderland")
    file.write_text(f"{file.read_text()}{line}\ncarol\n")
    fault = f"{file}: line {{}}: 'carol' has no bcrypt hash; {htpasswd._CURE}"
    done = run(*user(file, *mended), stdin=b"wonderland\n")
    assert done.returncode == 0
    number = 3 if mended[0] == "passwd" else 2
    left = f"still wrong: {fault.format(number)}"
    assert done.stderr.decode().splitlines() == [said, left]
    assert run(*user(file, "remove", "carol")).stderr.count(b"\n") == 1
    assert verifier.Verifier(file).verify("alice", b"wonderland", "::1").accepted
    assert verifier.Verifier(file).verify("bob", b"wonderland", "::1").accepted == (
        mended[0] == "passwd"
    )


def test_a_line_that_is_nobodys_name_gets_no_password(file):
    """The command would write a line because of which nobody can log in."""
    add(file, "alice", "wonderland")
    file.write_text(f"{file.read_text()}b\x01b:x\n")
    arguments = user(file, "passwd", "b\x01b", "--password-stdin", "--cost=4")
    assert "is not a user name: it has control characters" in refused(
        *arguments, stdin=b"wonderland\n"
    )


def test_a_password_is_asked_for_twice_and_not_shown(file):
    """A password could be seen on the screen, or mistyped without notice."""
    child = _prompted(file)
    child.expect("Password for alice: ")
    child.sendline("won der land")
    child.expect("The same again: ")
    child.sendline("won der land")
    ends(child, 0)
    assert "won der land" not in child.logfile_read.getvalue()
    assert verifier.Verifier(file).verify("alice", b"won der land", "::1").accepted


def test_two_different_passwords_are_refused(file):
    """After a typing error, the user could not log in."""
    child = _prompted(file)
    child.expect("Password for alice: ")
    child.sendline("one")
    child.expect("The same again: ")
    child.sendline("two")
    child.expect("the two passwords differ; nothing was changed")
    ends(child, 1)
    assert not file.exists()


def test_a_prompt_can_be_left(file):
    """Ctrl-C would print a traceback."""
    child = _prompted(file)
    child.expect("Password for alice: ")
    child.sendintr()
    ends(child, 130)
    assert "Traceback" not in child.logfile_read.getvalue()


def _prompted(file):
    argv = [*ARGV[1:], *user(file, "add", "alice", "--cost=4")]
    log = io.StringIO()
    child = pexpect.spawn(ARGV[0], argv, env=ENVIRONMENT, timeout=20, encoding="utf-8")
    child.logfile_read = log
    return child


def test_users_are_listed_quickly(file):
    """Scripts that add many users would load the web server each time."""
    add(file, "alice", "wonderland")
    script = "import sys; from worker_daemon.__main__ import main; main(sys.argv[1:]); "
    script += "sys.exit(bool({'falcon', 'waitress', 'bcrypt', 'worker_core'} & set(sys.modules)))"
    argv = [sys.executable, "-c", script, *user(file, "list")]
    assert subprocess.run(argv, capture_output=True, check=True).stdout == b"alice\n"


# Usage


def parsed(*arguments, code=0):
    """Run the parser alone, without a process, and return what it prints."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == code
    return out.getvalue() if code == 0 else err.getvalue()


def test_wrong_usage_is_2_and_shows_the_usage():
    """Scripts could not tell their own mistake from a failure."""
    assert "usage: workerd" in refused("frobnicate", code=2)
    for arguments in (["--frobnicate"], ["user"], ["user", "add"], ["--liste=x"]):
        assert "usage: workerd" in parsed(*arguments, code=2)


@pytest.mark.parametrize("arguments", [["--help"], ["user", "--help"], ["init", "--help"]])
def test_help_says_how(arguments):
    """A new user would have to read the source."""
    assert "usage: workerd" in parsed(*arguments)


@pytest.mark.parametrize("words", [[], ["init"], ["user", "add"]])
def test_help_is_an_action_too(words):
    """`workerd help` would be refused, although `worker help` works."""
    assert parsed("help", *words) == parsed(*words, "--help")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["chekc"], "no 'chekc'; did you mean check?"),
        (["user", "pasword", "alice"], "no 'pasword'; did you mean passwd?"),
        (["help", "inti"], "no 'inti'; did you mean init?"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
    ],
)
def test_a_misspelt_action_is_told_the_nearest(arguments, says):
    """The administrator would have to look for the right word in a list."""
    assert says in parsed(*arguments, code=2).splitlines()[-1]


def test_the_version_is_said():
    """A bug report could not name the version."""
    assert ok("--version") == f"workerd {__version__}\n"


def test_options_count_before_and_after_the_action(file):
    """An option after the action would be ignored without a message."""
    add(file, "alice", "wonderland")
    assert ok(f"--users={file}", "user", "list") == "alice\n"
    assert ok("user", f"--users={file}", "list") == "alice\n"
    assert ok("user", "list", f"--users={file}") == "alice\n"


# Settings that cannot work


@pytest.fixture
def arguments(file, tmp_path):
    """Valid settings, as options by name."""
    add(file, "alice", "wonderland")
    return {
        "listen": "127.0.0.1:0",
        "users": file,
        "cert": CERTS / "server.pem",
        "key": CERTS / "server.key",
        "state-dir": tmp_path / "state",
    }


def options(arguments):
    """Return settings as options."""
    return [f"--{name}={value}" for name, value in arguments.items()]


def test_settings_in_order_are_said_to_be(arguments, tmp_path):
    """A check that never succeeds would be ignored."""
    arguments["config"] = tmp_path / "workerd.toml"
    account = pwd.getpwuid(os.geteuid() or pwd.getpwnam("nobody").pw_uid).pw_name
    arguments["config"].write_text(f'run_as_default = "{account}"\n')
    done = run("check", *options(arguments))
    assert done.returncode == 0
    assert done.stderr.decode() == "configuration OK\n"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("action", ["check", "serve"])
def test_every_fault_is_said_at_once(arguments, tmp_path, action):
    """The administrator would find the faults one by one, each by another failed start."""
    (tmp_path / "blocked").write_text("")
    (tmp_path / "workerd.toml").write_text('run_as_default = "no-such"\n')
    arguments |= {
        "config": tmp_path / "workerd.toml",
        "listen": "0.0.0.0:0",
        "users": tmp_path / "nobody",
        "state-dir": tmp_path / "blocked/state",
    }
    lines = refused(action, *options(arguments)).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["workerd"] * 4
    assert "on 0.0.0.0: its key is published, for development; `workerd init` makes" in lines[0]
    assert "there is no users file" in lines[1]
    assert "blocked is not a directory" in lines[2]
    assert "run_as_default: there is no account 'no-such' on this machine" in lines[3]


def test_faults_of_form_and_of_matter_are_said_together(arguments, tmp_path):
    """One kind of fault would be found only after the other is fixed."""
    config = tmp_path / "workerd.toml"
    config.write_text('threads = 0\nclient_ca = "none.pem"\nusers = 3\n')
    arguments |= {"config": config, "key": tmp_path / "none.key"}
    del arguments["users"]
    assert refused("check", *options(arguments)).splitlines() == [
        f"workerd: {config}: threads must be a whole number of at least 1, not 0",
        f"workerd: {config}: users must be the path of a file, not 3",
        f"workerd: there is no {tmp_path}/none.key; {contexts._CURE}",
        f"workerd: there is no {tmp_path}/none.pem; {contexts._CLIENT_CURE}",
    ]


NO_ACCOUNT = "there is no account 'no-such' on this machine; `useradd` makes one"


def test_a_setting_that_cannot_be_read_hides_no_other_fault(arguments, tmp_path):
    """Each fault would be found only after the one before is fixed."""
    config = tmp_path / "workerd.toml"
    config.write_text(
        'supervisor = "mine"\ntls_min_version = "1.1"\nkey = 7\nrun_as_default = "no-such"\n'
    )
    files = _issue(tmp_path, datetime.datetime(2020, 5, 1, tzinfo=datetime.UTC))
    del arguments["key"]
    arguments |= {"config": config, "cert": files["cert"]}
    assert refused("check", *options(arguments)).splitlines() == [
        f"workerd: {config}: supervisor must be one of 'own', 'service', not 'mine'",
        f"workerd: {config}: tls_min_version must be one of '1.2', '1.3', not '1.1'",
        f"workerd: {config}: key must be the path of a file, not 7",
        f"workerd: {files['cert']} expired on 2025-04-30; no client would accept it",
        f"workerd: run_as_default: {NO_ACCOUNT}",
    ]


def test_a_broken_tls_version_hides_no_fault_of_the_key(arguments, tmp_path):
    """The next start would fail again."""
    config = tmp_path / "workerd.toml"
    config.write_text('tls_min_version = "1.1"\n')
    arguments |= {"config": config, "key": tmp_path / "none.key"}
    assert refused("check", *options(arguments)).splitlines() == [
        f"workerd: {config}: tls_min_version must be one of '1.2', '1.3', not '1.1'",
        f"workerd: there is no {tmp_path}/none.key; {contexts._CURE}",
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", ""])
def test_the_published_key_is_not_served_to_the_network(arguments, tmp_path, host):
    """Anybody could pretend to be the server, and read every password."""
    copy = tmp_path / "mine.pem"
    copy.write_bytes((CERTS / "server.pem").read_bytes())
    arguments |= {"listen": f"{host}:0", "cert": copy}
    assert "its key is published" in refused(*options(arguments))


def test_an_expired_certificate_is_a_fault(arguments, tmp_path):
    """The daemon would serve, and every client would refuse it."""
    then = datetime.datetime(2020, 5, 1, tzinfo=datetime.UTC)
    files = _issue(tmp_path, then)
    said = refused("check", *options(arguments | files))
    assert "mine.pem expired on 2025-04-30; no client would accept it" in said


def test_what_is_no_fault_but_hardly_meant_is_a_warning(arguments, tmp_path):
    """A certificate would expire without notice, or an administrator have no rights."""
    now = datetime.datetime.now(datetime.UTC)
    files = _issue(tmp_path, now - datetime.timedelta(days=5 * 365 - 5))
    config = tmp_path / "workerd.toml"
    config.write_text(
        'admins = ["alice", "carol"]\nmax_followers = 9\n'
        'run_as_default = "nobody"\nsupervisor = "service"\n'
        '[run_as]\ndave = "nobody"\n[limits.users.erin]\n[shares]\nfrank = 2\n'
    )
    changed = arguments | files | {"config": config}
    said = run("check", *options(changed)).stderr.decode()
    assert f"warning: {config}: max_followers is now called max_long_requests" in said
    assert "warning: admins not in the users file: carol" in said
    assert "warning: run_as: unknown users: dave" in said
    assert "warning: limits: unknown users: erin" in said
    assert "warning: shares: unknown users: frank" in said
    assert f"warning: {files['cert']} expires on " in said


def _issue_now(directory):
    return _issue(directory, datetime.datetime.now(datetime.UTC))


def _issue(directory, now):
    """Make a certificate valid for five years from `now` on; return the options for it."""
    made = ca.Authority.create("x").issue(["localhost"], now=now)
    files = {"cert": directory / "mine.pem", "key": directory / "mine.key"}
    for path, content in zip(files.values(), made, strict=True):
        path.touch(mode=0o600)
        path.write_bytes(content)
    return files


def test_check_warns_of_an_empty_users_file(arguments, file):
    """The server would start, and refuse everybody."""
    ok(*user(file, "remove", "alice"))
    done = run("check", *options(arguments))
    assert done.returncode == 0
    assert f"warning: there is no user in {file}, so that nobody can log in" in done.stderr.decode()


def test_check_finds_a_port_that_another_program_uses(arguments):
    """The fault would show only at the start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments["listen"] = f"127.0.0.1:{taken.getsockname()[1]}"

        def hang_up():
            taken.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        said = refused("check", *options(arguments))
    assert f"cannot listen on {arguments['listen']}: Address already in use; another" in said


def test_check_finds_an_address_of_another_machine(arguments):
    """The fault would show only at the start."""
    arguments |= {"listen": "192.0.2.1:8443", **_issue_now(arguments["users"].parent)}
    said = refused("check", *options(arguments))
    assert "cannot listen on 192.0.2.1:8443: Cannot assign requested address" in said


def test_check_recognises_a_running_workerd(arguments, tmp_path):
    """A running server would be reported as a fault, or another program be taken for it."""
    with Daemon(tmp_path) as daemon:
        arguments["listen"] = f"127.0.0.1:{daemon.port}"
        done = run("check", *options(arguments))
        assert done.returncode == 0, done.stderr.decode()
        assert f"a running workerd listens on 127.0.0.1:{daemon.port}\n" in done.stderr.decode()
        # The certificate was renewed and is not loaded yet.
        done = run("check", *options(arguments | _issue_now(tmp_path)))
        assert f"a running workerd listens on 127.0.0.1:{daemon.port}\n" in done.stderr.decode()


def test_a_port_in_use_is_said_and_leaves_nothing_running(arguments, tmp_path):
    """The message would be a traceback, and a supervisor would be left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments["listen"] = f"127.0.0.1:{port}"
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use; another" in refused(
            *options(arguments)
        )
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["init", "--directory", "", "localhost"],
        ["check", "--config="],
        ["check", "--users="],
        ["check", "--cert="],
        ["check", "--key="],
        ["check", "--state-dir="],
    ],
)
def test_an_empty_path_is_refused(tmp_path, arguments):
    """An unset variable in a script would mean the working directory, and fill it with keys."""
    done = run(*arguments, directory=tmp_path)
    assert done.returncode
    assert b"''" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("host", ["a..b", "a\udcff", "x" * 70])
def test_what_is_no_host_name_is_said_so(arguments, host):
    """A mistyped address to listen on would be a traceback."""
    arguments["listen"] = f"{host}:8443"
    assert ":8443: that is not a host name" in refused("check", *options(arguments))


def test_settings_that_cannot_be_read_are_said(tmp_path):
    """A typing error in the file would be a traceback."""
    config = tmp_path / "workerd.toml"
    config.write_text("threads = 0\n")
    for action in ("serve", "check", "user"):
        more = ["list"] if action == "user" else []
        said = refused(f"--config={config}", action, *more)
        first, *others = said.splitlines()
        assert first == f"workerd: {config}: threads must be a whole number of at least 1, not 0"
        assert bool(others) == (action == "check"), "of which there is no certificate either"


# A machine that cannot work


REMOVED = "must be an absolute path: the working directory was removed"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["serve", "--state-dir=./s"], f"workerd: --state-dir {REMOVED}"),
        (["check", "--state-dir=./s"], f"workerd: --state-dir {REMOVED}"),
        (["check", "--users=u"], f"workerd: --users {REMOVED}"),
        (["check", "--config=x.toml"], f"workerd: --config x.toml {REMOVED}"),
        (["recover", "--state-dir=s"], f"workerd: --state-dir {REMOVED}"),
        (["init", "--directory=x"], f"workerd: --directory {REMOVED}"),
    ],
)
def test_a_removed_working_directory_is_named(arguments, tmp_path, words, says):
    """A traceback would say nothing of what to do."""
    gone = tmp_path / "gone"
    gone.mkdir()
    given = [each for each in options(arguments) if each.partition("=")[0] not in words[1]]
    given = [] if words[0] == "init" else given
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", gone, *ARGV, *words, *given],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("mount", "says"),
    [
        ("mount -t proc -o subset=pid proc /proc", "/proc is mounted with subset=pid, which hides"),
        ("mount -t tmpfs none /proc", "/proc is not mounted; mount it: mount -t proc proc /proc"),
    ],
)
@pytest.mark.parametrize("action", ["check", "serve"])
def test_an_unusable_proc_is_named(arguments, mount, says, action):
    """The message would blame the database, or be a traceback."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("needs root: mounts another /proc, seen by nobody else")
    enter = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    done = subprocess.run(
        [*enter, *ARGV, action, *options(arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 1
    assert f"workerd: cannot run jobs: {says}" in done.stderr
    assert "Traceback" not in done.stderr


SHORT = """
import faulthandler, sys, threading
from worker_daemon.__main__ import main
left, start = int(sys.argv.pop(1)), threading.Thread.start
def limited(self):
    global left
    left -= 1
    if left < 0:
        raise RuntimeError("can't start new thread")
    start(self)
def none_left(*_, **__):
    raise RuntimeError("unable to start watchdog thread")
threading.Thread.start = limited
faulthandler.dump_traceback_later = none_left
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("threads", range(4))  # of the import, store, executor, retention
def test_a_limit_on_processes_at_the_start_is_named(arguments, threads):
    """A traceback would say nothing of what to do."""
    done = subprocess.run(
        [sys.executable, "-c", SHORT, str(threads), "serve", *options(arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 1
    assert "workerd: cannot start a thread: the limit on processes is reached; raise it (Task" in (
        done.stderr
    )
    assert "Traceback" not in done.stderr


def test_a_limit_on_processes_at_the_stop_is_no_failure(arguments):
    """At the limit of processes, a server that is stopped would print a traceback."""
    with subprocess.Popen(
        [sys.executable, "-c", SHORT, "1000", "serve", *options(arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as running:
        while "listening on" not in running.stderr.readline():
            assert running.poll() is None
        running.terminate()
        _, rest = running.communicate(timeout=30)
    assert running.returncode == 0
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("environment", "redirection", "says"),
    [
        ("LISTEN_FDS=1", "3<&-", "cannot use descriptor 3, which LISTEN_FDS=1 names: Bad file"),
        ("LISTEN_FDS=99999999999", "3<&-", "cannot use descriptor 3, which LISTEN_FDS=99999999999"),
        (
            "LISTEN_FDS=1",
            "3</etc/passwd",
            "cannot use descriptor 3, which LISTEN_FDS names: Socket",
        ),
    ],
)
def test_a_descriptor_that_is_no_listening_socket_is_named(
    arguments, environment, redirection, says
):
    """A service whose socket unit is wrong would end with a traceback."""
    script = f'export LISTEN_PID=$$ {environment}; exec "$@" {redirection}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *ARGV, "serve", *options(arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 1
    assert f"workerd: {says}" in done.stderr
    assert "Traceback" not in done.stderr
