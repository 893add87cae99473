"""Settings: where they come from, and the messages for invalid ones."""

import os
import re
from pathlib import Path

import pytest
from worker_daemon import errors
from worker_daemon.command import init
from worker_daemon.settings import config, paths, units


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A machine without any settings, and a user who is not root."""
    for name in ("CONFIGURATION_DIRECTORY", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path / "home"


def write(path, text):
    """Write a file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def faults(path=None, **flags):
    """Return what is wrong with settings that cannot be loaded."""
    with pytest.raises(errors.ConfigError) as refused:
        config.load(path, flags)
    return refused.value.faults


def test_without_settings_everything_has_a_default(home):
    """A first try would need a settings file."""
    loaded = config.load()
    assert loaded == config.Config()
    assert str(loaded.listen) == "127.0.0.1:8443"
    assert loaded.users == home / ".config/workerd/users"
    assert loaded.state_dir == home / ".local/state/workerd"


def test_root_uses_the_directories_of_the_site(monkeypatch):
    """`sudo workerd user add` would change another file than the service reads."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    loaded = config.load()
    assert loaded.users == Path("/etc/xdg/workerd/users")
    assert loaded.state_dir == Path("/var/lib/workerd")


def test_a_service_uses_the_directories_that_systemd_gives_it(tmp_path, monkeypatch):
    """Under systemd the daemon would look in directories that it cannot read."""
    credentials = tmp_path / "credentials"
    write(credentials / "server.key", "")
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", f"{tmp_path}/etc:{tmp_path}/other")
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/state")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    write(tmp_path / "etc/workerd.toml", "max_running = 3")
    loaded = config.load()
    assert loaded.max_running == 3
    assert loaded.state_dir == tmp_path / "state"
    assert loaded.cert == tmp_path / "etc/server.pem"
    assert loaded.key == credentials / "server.key"


def test_flags_win_over_the_file_and_the_file_over_the_defaults(home):
    """A setting on the command line would be ignored because the file says otherwise."""
    write(home / ".config/workerd/workerd.toml", 'listen = "127.0.0.1:1000"\nthreads = 7\n')
    loaded = config.load(None, {"listen": "[::1]:2000", "users": None})
    assert loaded.listen == units.Address("::1", 2000)
    assert loaded.threads == 7
    assert loaded.max_running == 256


def test_paths_start_where_they_are_written(tmp_path, monkeypatch):
    """The same settings would name other files in another working directory."""
    path = write(tmp_path / "etc/w.toml", 'cert = "tls/server.pem"\nclient_ca = "~/ca.pem"\n')
    monkeypatch.chdir(tmp_path)
    loaded = config.load(Path("etc/w.toml"), {"users": "my/users"})
    assert loaded.cert == path.parent / "tls/server.pem"
    assert loaded.client_ca == Path.home() / "ca.pem"
    assert loaded.users == tmp_path / "my/users"
    assert loaded.key == path.parent / "server.key"


def test_everything_wrong_is_said_at_once(tmp_path):
    """The administrator would fix one setting after the other, each with a restart."""
    path = write(
        tmp_path / "w.toml",
        "max_runing = 3\nthreads = 0\noutput_limit = 'much'\nlog_level = 'loud'\nadmins = 'root'\n",
    )
    said = faults(path, listen="8443", state_dir="")
    assert said == (
        f"{path}: max_runing is not a setting; did you mean max_running?",
        f"{path}: threads must be a whole number of at least 1, not 0",
        f"{path}: output_limit must be a number of bytes or a text such as \"16 MiB\", not 'much'",
        f"{path}: log_level must be one of 'debug', 'info', 'warning', 'error', not 'loud'",
        f"{path}: admins must be a list of user names, not 'root'",
        "--listen must be \"HOST:PORT\" with a port from 0 to 65535, not '8443'",
        "--state-dir must be the path of a file, not ''",
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"threads = ", "Invalid value"),
        (b"\xff", "it is not UTF-8 text"),
        (b"[tls]\nx = 1\n", "tls is not a setting"),
    ],
)
def test_a_file_that_is_no_toml_is_said_so(tmp_path, text, fault):
    """A typing error would be a traceback."""
    path = tmp_path / "w.toml"
    path.write_bytes(text)
    assert fault in faults(path)[0]


def test_a_file_that_was_named_must_be_there(tmp_path):
    """A misspelt path would silently mean the defaults."""
    assert "`workerd init` writes one" in faults(tmp_path / "none.toml")[0]
    assert "Is a directory" in faults(tmp_path)[0]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8443", ("127.0.0.1", 8443)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:8443", ("::1", 8443)),
        ("[::]:1", ("::", 1)),
        (":8443", ("::", 8443)),
    ],
)
def test_addresses_are_read(text, address):
    """The daemon would listen somewhere else than the administrator wrote."""
    assert units.address(text) == address
    assert units.address(str(units.address(text))) == address


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:http", "host:65536", "host:-1", "::1:8443", "[::1]", 8443]
)
def test_what_is_no_address_is_refused(text):
    """A mistyped address would be taken for another one."""
    with pytest.raises(ValueError, match='must be "HOST:PORT"'):
        units.address(text)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (1024, 1024),
        ("1024", 1024),
        ("16 MiB", 16 << 20),
        ("1GiB", 1 << 30),
        ("1.5KiB", 1536),
        ("8 mib", 8 << 20),
        ("10 B", 10),
    ],
)
def test_sizes_are_read(value, size):
    """A limit would be a thousand times what was written."""
    assert units.size(value) == size


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0.5, 0.5),
        (30, 30),
        ("30s", 30),
        ("10m", 600),
        ("7d", 604800),
        ("1.5 h", 5400),
        ("5ms", 0.005),
        ("7D", 604800),
        (" 1h 30 m ", 5400),
    ],
)
def test_durations_are_read(value, seconds):
    """Jobs would be deleted after seven seconds instead of days."""
    assert units.duration(value) == seconds


@pytest.mark.parametrize("value", ["", "x", "-1", -1, "1 parsec", "1 m 5", True, None, [1], "1e9"])
def test_what_is_no_quantity_is_refused(value):
    """A limit that nobody wrote would be in force."""
    with pytest.raises(ValueError, match="must be a number of"):
        units.size(value)
    with pytest.raises(ValueError, match="must be a number of"):
        units.duration(value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("max_header = 10", "max_header must be at least 4KiB, not 10"),
        ('max_body = "0"', "max_body must be at least 4KiB, not '0'"),
        ("max_connections = 9", "max_connections must be a whole number of at least 10, not 9"),
        ("keep_age = 0", "keep_age must be at least 1m, not 0"),
        ('handshake_timeout = "1ms"', "handshake_timeout must be at least 1s, not '1ms'"),
        ("header_timeout = 0.1", "header_timeout must be at least 1s, not 0.1"),
        ("body_timeout = 0", "body_timeout must be at least 1s, not 0"),
        ('idle_timeout = "5ms"', "idle_timeout must be at least 1s, not '5ms'"),
        ("drain_timeout = 0", "drain_timeout must be longer than 0 seconds"),
        ("limits.max.memory = 7", "limits.max.memory must be at least 1MiB, not 7"),
        ("limits.max.open_files = 3", "open_files must be a whole number of at least 4, not 3"),
        ("limits.max.io.write = 1", "limits.max.io.write must be at least 4KiB, not 1"),
    ],
)
def test_what_would_refuse_everybody_is_refused_itself(tmp_path, text, fault):
    """`check` would find no fault, but every request or job would be refused."""
    (said,) = faults(write(tmp_path / "w.toml", text))
    assert said.endswith(fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"output_limit = {1 << 63}", "output_limit must be at most 4194304TiB"),
        (f"max_body = {'9' * 400}", "max_body must be at most 4194304TiB"),
        (f"keep_age = {'9' * 400}", "keep_age must be at most 36500d"),
        ('drain_timeout = "999999999d"', "drain_timeout must be at most 36500d"),
        (f"limits.max.file_size = {1 << 63}", "file_size must be at most 4194304TiB"),
        (f"threads = {'9' * 5000}", "cannot read"),
    ],
)
def test_what_nothing_could_hold_is_refused(tmp_path, text, fault):
    """The first job, or the signal that ends the daemon, would cause a traceback."""
    (said,) = faults(write(tmp_path / "w.toml", text))
    assert fault in said


def test_special_words_are_read(tmp_path):
    """The documented way to keep jobs for ever would not work."""
    path = write(tmp_path / "w.toml", 'keep_age = "forever"\noutput_limit = 0\nadmins = ["a", "b"]')
    loaded = config.load(path)
    assert loaded.keep_age is None
    assert loaded.output_limit == 0
    assert loaded.admins == {"a", "b"}


def test_every_setting_says_what_it_means():
    """The settings that init writes would have entries without a word of explanation."""
    assert all(setting.doc.endswith(".") for setting in config.settings().values())
    assert {*config.settings(), "source", "warnings"} == set(vars(config.Config()))


@pytest.mark.parametrize("value", [0, 1, 1000, 1 << 10, 3 << 20, 1 << 30, 1536])
def test_sizes_are_written_as_they_are_read(value):
    """The settings that init writes would not mean the defaults."""
    assert units.size(units.size_text(value)) == value


@pytest.mark.parametrize("value", [0.0, 0.5, 8.0, 75.0, 60.0, 5400.0, 604800.0])
def test_durations_are_written_as_they_are_read(value):
    """The settings that init writes would not mean the defaults."""
    assert units.duration(units.duration_text(value)) == value


def test_the_readme_has_every_setting():
    """A setting would be documented wrongly or not at all."""
    readme = Path(__file__).parents[2] / "packages/worker-daemon/README.md"
    lines = [line for line in readme.read_text().splitlines() if line.startswith("| `")]
    for name, setting in config.settings().items():
        default = {"state_dir": "see above", "client_ca": "none", "run_as_default": "none"}.get(
            name, f"`{init.example(name)}`"
        )
        assert f"| `{name}` | {default} | {setting.doc} |" in lines


@pytest.mark.parametrize("name", ["tls_min_version", "log_level", "log_format", "supervisor"])
def test_the_words_of_a_setting_are_in_its_documentation(name):
    """The administrator would have to try a wrong word to learn the right ones."""
    setting = config.settings()[name]
    with pytest.raises(ValueError, match="must be one of") as refused:
        setting.read("no such word")
    words = re.findall("'(.*?)'", str(refused.value))[:-1]
    assert len(words) > 1
    assert all(f'"{word}"' in setting.doc for word in words)


def test_places_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    """After a chdir the daemon would read other files on SIGHUP than at its start."""
    monkeypatch.chdir(tmp_path)
    assert paths.beside(Path("w.toml"))["users"] == tmp_path / "users"


def test_an_old_name_of_a_setting_is_accepted_with_a_warning(tmp_path):
    """An upgrade would end with a server that does not start, or with a setting that is ignored."""
    path = write(tmp_path / "w.toml", "max_followers = 5")
    loaded = config.load(path)
    assert loaded.max_long_requests == 5
    (warning,) = loaded.warnings
    assert warning == (
        f"{path}: max_followers is now called max_long_requests; rename it: the next release does"
        " not accept the old name"
    )


def test_an_old_and_the_new_name_of_a_setting_are_not_both_accepted(tmp_path):
    """One of two values would be ignored, and nobody would know which."""
    path = write(tmp_path / "w.toml", "max_followers = 5\nmax_long_requests = 6")
    told = (
        f"{path}: max_followers is the old name of max_long_requests, which is set too; remove it"
    )
    assert faults(path) == (told,)


def test_a_fault_in_a_setting_with_an_old_name_names_the_new_one(tmp_path):
    """The message and the documentation would have different names."""
    path = write(tmp_path / "w.toml", "max_followers = 0")
    assert faults(path) == (
        f"{path}: max_long_requests must be a whole number of at least 1, not 0",
    )


@pytest.mark.parametrize("share", ['"2"', "0", "true", "1000"])
def test_a_share_is_a_number(tmp_path, share):
    """A user would get no slot at all, or all of them."""
    (said,) = faults(write(tmp_path / "w.toml", f"[shares]\nalice = {share}"))
    assert "a share is a number from 0.01 to 100" in said
    good = config.load(write(tmp_path / "good.toml", "[shares]\nalice = 2"))
    assert good.shares == {"alice": 2.0}
