"""`workerd init`: a server in one command."""

import os
import re
import shutil
import ssl
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import requests
from cryptography import x509
from support.edge import reply, serving
from worker_daemon import certificate, errors
from worker_daemon.auth import verifier
from worker_daemon.command import ca, init
from worker_daemon.settings import config, paths

NO_ADDRESSES = ["999.1.1.1", "1.2.3", "010.0.0.1", "192.0.2.7.8", "a\udcff"]
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def app(environ, start_response):
    """Answer 204."""
    start_response("204 No Content", [])
    return []


@pytest.fixture
def plan(tmp_path):
    """The plan for a server with a name and an address."""
    return init.plan(tmp_path / "etc", ["server.example.org", "192.0.2.7"], ":8443", "alice", None)


@pytest.fixture
def made(plan, monkeypatch):
    """A plan that was carried out, with a password from stdin."""
    _type(monkeypatch, b"wonderland\n")
    init.init(plan, from_stdin=True, cost=4)
    return plan


def _type(monkeypatch, data):
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_what_it_makes_serves_at_once(made):
    """The administrator would have to find out what is still missing."""
    loaded = config.load(made.path("workerd.toml"))
    assert str(loaded.listen) == "[::]:8443"
    assert verifier.Verifier(loaded.users).verify("alice", b"wonderland", "::1").accepted
    with serving(app, cert=loaded.cert, key=loaded.key) as edge:
        context = ssl.create_default_context(cafile=made.path("ca.pem"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        for name in ("server.example.org", "192.0.2.7", "localhost", "127.0.0.1", "::1"):
            with context.wrap_socket(edge.plain(), server_hostname=name) as connection:
                connection.sendall(GET)
                assert reply(connection).startswith(b"HTTP/1.1 204 ")
        with edge.plain() as raw, pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(raw, server_hostname="other.example.org")


def test_openssl_finds_nothing_wrong_with_the_certificate(made):
    """Clients stricter than Python would refuse it."""
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"]
    paths = [made.path("ca.pem"), made.path("server.pem")]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=False)
    assert done.stdout.endswith(": OK\n"), done.stderr


def test_secrets_are_for_their_owner_only(made):
    """Every account of the machine could read keys and hashes, if only for a moment."""
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in made.directory.iterdir()}
    assert modes == {
        "ca.key": 0o600,
        "ca.pem": 0o644,
        "server.key": 0o600,
        "server.pem": 0o644,
        "users": 0o600,
        "workerd.toml": 0o644,
    }


def test_a_service_group_may_read_what_it_needs_and_not_the_ca(plan, monkeypatch):
    """The service could not start, or could make certificates for anybody."""
    import dataclasses

    _type(monkeypatch, b"wonderland\n")
    group = os.getgid()
    init.init(dataclasses.replace(plan, group=group), from_stdin=True, cost=4)
    for name, mode in (("users", 0o640), ("server.key", 0o640), ("ca.key", 0o600)):
        status = plan.path(name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (mode, group)


def test_every_key_is_its_own(made, tmp_path):
    """All servers would share a key, as with the development certificates."""
    assert not certificate.is_published(made.path("server.pem"))
    other = ca.Authority.create("x")
    assert other.key != made.path("ca.key").read_bytes()


def test_every_setting_is_in_the_file_and_can_be_uncommented(made):
    """An example in the file would not be a setting that works."""
    text = made.path("workerd.toml").read_text()
    everything = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert set(tomllib.loads(everything)) == set(config.settings())
    made.path("workerd.toml").write_text(everything)
    loaded = config.load(made.path("workerd.toml"))
    for name in set(config.settings()) - {"listen", "client_ca", "run_as_default"}:
        default = paths.beside(made.path("workerd.toml")).get(name, getattr(config.Config(), name))
        assert getattr(loaded, name) == default


def test_nothing_is_overwritten(made, monkeypatch):
    """All clients would have to trust a new CA, and all users be gone."""
    before = {path: path.read_bytes() for path in made.directory.iterdir()}
    _type(monkeypatch, b"wonderland\n")
    with pytest.raises(
        errors.DaemonError, match=r"has ca.pem, .* already, and nothing is overwritten"
    ):
        init.init(made, from_stdin=True, cost=4)
    assert {path: path.read_bytes() for path in made.directory.iterdir()} == before


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """A mistyped --directory would be a traceback."""
    (tmp_path / "file").touch()
    wanted = init.plan(tmp_path / "file/x", ["localhost"], "localhost:0", "ann", None)
    _type(monkeypatch, b"wonderland\n")
    with pytest.raises(errors.DaemonError, match=r"cannot write .*/file/x: Not a directory"):
        init.init(wanted, from_stdin=True, cost=4)


def test_a_refused_password_leaves_nothing_behind(plan, monkeypatch):
    """After the slip, the second try would be refused because of the first."""
    _type(monkeypatch, b"\n")
    with pytest.raises(errors.UsersError, match="the password is empty"):
        init.init(plan, from_stdin=True, cost=4)
    assert not plan.directory.exists()


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("No username set")])
def test_an_account_without_a_name_is_told_to_give_one(tmp_path, monkeypatch, error):
    """In a container, where uids have no names, the administrator would see a traceback."""

    def nobody():
        raise error

    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr("getpass.getuser", nobody)
    nameless = init.plan(tmp_path / "etc", ["server.example.org"], ":8443", None, None)
    with pytest.raises(errors.DaemonError, match=r"\Acannot tell who .*; name .* --user NAME\Z"):
        init.init(nameless, from_stdin=True, cost=4)
    assert not nameless.directory.exists()
    named = init.plan(tmp_path / "etc", ["server.example.org"], ":8443", "alice", None)
    _type(monkeypatch, b"wonderland\n")
    init.init(named, from_stdin=True, cost=4)
    init.renew(nameless)  # which needs nobody's name


@pytest.mark.parametrize(
    "name", ["", "a b", "*", "exa!mple", "x" * 70, "-x.org", "a..b", "a/b", *NO_ADDRESSES]
)
def test_a_name_that_is_none_is_refused(tmp_path, name):
    """A certificate would be made that no client accepts."""
    with pytest.raises(errors.DaemonError, match="is neither a host name nor an IP address"):
        init.plan(tmp_path / "etc", [name], ":8443", "alice", None)


@pytest.mark.parametrize("name", ["10.example.org", "123456789012", "x.y1"])
def test_a_number_may_be_part_of_a_name(name):
    """A container whose name has only digits in it could not have a certificate."""
    ca.check_name(name)


def test_names_in_other_languages_are_certified_as_the_net_knows_them(tmp_path):
    """A host with an umlaut could not have a certificate."""
    cert, _ = ca.Authority.create("x").issue(["bücher.example"])
    (tmp_path / "c.pem").write_bytes(cert)
    done = subprocess.run(
        ["openssl", "x509", "-in", tmp_path / "c.pem", "-noout", "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "DNS:xn--bcher-kva.example" in done.stdout


def test_renewing_keeps_the_ca_and_everything_else(made):
    """After each renewal, all workstations would need a new CA."""
    before = {path: path.read_bytes() for path in made.directory.iterdir()}
    init.renew(made)
    after = {path: path.read_bytes() for path in made.directory.iterdir()}
    changed = {path.name for path in after if after[path] != before[path]}
    assert changed == {"server.pem", "server.key"}
    with serving(app, cert=made.path("server.pem"), key=made.path("server.key")) as edge:
        context = ssl.create_default_context(cafile=made.path("ca.pem"))
        with context.wrap_socket(edge.plain(), server_hostname="192.0.2.7"):
            pass


def test_renewing_without_names_keeps_those_of_the_certificate(made):
    """A name that is left out by mistake would make clients refuse the server."""
    before = ca.names_of(made.path("server.pem"))
    init.renew(init.plan(made.directory, [], ":8443", "alice", None, renew=True))
    assert ca.names_of(made.path("server.pem")) == before
    assert {"server.example.org", "192.0.2.7", "localhost"} <= set(before)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_renewing_without_names_and_without_a_certificate_is_refused(made, content):
    """A certificate for a wrong name would be made, or the cure not be named."""
    path = made.path("server.pem")
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(errors.CertificateError, match="give them: `workerd init --renew NAME"):
        init.plan(made.directory, [], ":8443", "alice", None, renew=True)


def test_clients_believe_the_ca_for_this_server_only(made):
    """With a stolen CA key, one could pretend to be any site to all clients of the CA."""
    stolen = ca.Authority.read(made.path("ca.pem"), made.path("ca.key"))
    mine = x509.load_pem_x509_certificate(stolen.certificate)
    extension = mine.extensions.get_extension_for_class(x509.NameConstraints)
    assert extension.critical
    assert {str(each.value) for each in extension.value.permitted_subtrees} == {
        *("server.example.org", "localhost"),
        *("192.0.2.7/32", "127.0.0.1/32", "::1/128"),
    }
    for name in ("bank.example", "192.0.2.8", "::2", "server.example.org.evil.example"):
        with pytest.raises(errors.CertificateError, match="clients trust this CA only for"):
            stolen.issue([name])
        cert, key = unchecked(stolen).issue(["localhost", name])
        made.path("forged.pem").write_bytes(cert)
        made.path("forged.key").touch(mode=0o600)
        made.path("forged.key").write_bytes(key)
        files = {"cert": made.path("forged.pem"), "key": made.path("forged.key")}
        with serving(app, **files) as edge:
            trust = ssl.create_default_context(cafile=made.path("ca.pem"))
            with (
                edge.plain() as raw,
                pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"),
            ):
                trust.wrap_socket(raw, server_hostname=name)


def unchecked(stolen):
    """Return a CA of the same name and key that looks at no constraint: a thief's."""
    thief = ca.Authority(stolen.certificate, stolen.key)

    class Thief(ca.Authority):
        def issue(self, names):
            real = ca._check_permitted
            ca._check_permitted = lambda *_: None
            try:
                return thief.issue(names)
            finally:
                ca._check_permitted = real

    return Thief(stolen.certificate, stolen.key)


def test_all_clients_accept_the_constrained_chain(made):
    """A client that cannot read the constraints could not be used at all."""
    loaded = config.load(made.path("workerd.toml"))
    ca = str(made.path("ca.pem"))
    with serving(app, cert=loaded.cert, key=loaded.key) as edge:
        for name in ("localhost", "127.0.0.1"):
            url = f"https://{name}:{edge.port}/"
            with requests.Session() as session:
                session.trust_env = False
                assert session.get(url, verify=ca, timeout=30).status_code == 204
            if curl := shutil.which("curl"):
                argv = [curl, "-sS", "--noproxy", "*", "--cacert", ca, "-w", "%{http_code}", url]
                done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
                assert (done.returncode, done.stdout) == (0, b"204"), done.stderr
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca, loaded.cert],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_renewing_for_another_name_is_refused_with_the_cure(made, plan):
    """The server would get a certificate that no client accepts."""
    import dataclasses

    before = made.path("server.pem").read_bytes()
    other = dataclasses.replace(made, names=[*made.names, "new.example.org", "10.0.0.1"])
    with pytest.raises(errors.CertificateError) as caught:
        init.renew(other)
    assert str(caught.value).startswith(
        "cannot issue a certificate for new.example.org, 10.0.0.1: clients trust this CA only for"
        " server.example.org, 192.0.2.7, localhost, 127.0.0.1, ::1; "
    )
    assert made.path("server.pem").read_bytes() == before
    below = dataclasses.replace(made, names=["Sub.Server.example.org", "localhost"])
    init.renew(below)


def test_a_ca_of_an_earlier_release_can_be_renewed_for_any_name(made, plan):
    """A server of release 0.1.0 could get no new certificate."""
    old = ca.Authority.create("server.example.org")
    made.path("ca.pem").write_bytes(old.certificate)
    made.path("ca.key").write_bytes(old.key)
    import dataclasses

    init.renew(dataclasses.replace(made, names=["new.example.org"]))


def test_renewing_without_a_ca_is_refused(plan):
    """The administrator would see a traceback."""
    with pytest.raises(errors.CertificateError, match=r"cannot read the CA: .*ca.pem: No such"):
        init.renew(plan)


def test_three_lines_tell_what_a_workstation_needs(capsys, made):
    """The administrator would have to explain it to everybody."""
    out = capsys.readouterr().out
    lines = out.partition("On a workstation, in a clone of worker:\n")[2].splitlines()
    words = [line.split() for line in lines]
    assert [each[0] for each in words] == [
        *("python3", "~/worker/bin/pip", "scp", "~/worker/bin/worker"),
    ]
    assert words[0][1:4] == ["-m", "venv", "~/worker"]
    assert words[3][1:3] == ["login", "https://server.example.org:8443"]


def test_nothing_is_installed_into_the_system_s_python(capsys, made):
    """Debian's pip refuses that (PEP 668), and the first line that is typed would fail."""
    packages = Path(__file__).parents[2] / "packages"
    texts = [
        file.read_text() for file in (*packages.glob("*/README.md"), packages / "../README.md")
    ]
    for text in (capsys.readouterr().out, *texts):
        for line in re.findall(r"^.*pip install packages.*$", text, re.M):
            assert re.search(r"(~|/opt)/worker/bin/pip install", line), line


@pytest.mark.parametrize("password", ["x", "1234567", "äöüäöüä", "       "])
def test_a_short_password_is_refused(plan, monkeypatch, password):
    """It would be guessed in a few tries."""
    _type(monkeypatch, password.encode() + b"\n")
    with pytest.raises(errors.UsersError, match=r"has . characters?; choose one with at least 8"):
        init.init(plan, from_stdin=True, cost=4)
    assert not plan.directory.exists()


def test_what_is_installed_comes_from_the_clone(capsys, made):
    """Anybody who takes the name on the package index would run code where users are."""
    packages = Path(__file__).parents[2] / "packages"
    texts = capsys.readouterr().out, (packages / "worker-daemon/README.md").read_text()
    for text in texts:
        found = re.findall(r"pip install (.*)", text)
        assert found
        for word in " ".join(found).split():
            assert (packages.parent / word / "pyproject.toml").exists(), word


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        (":8443", "on [::]:8443, every address of this machine;"),
        ("0.0.0.0:1", "on 0.0.0.0:1, every address of this machine;"),
        ("127.0.0.1:8443", "on 127.0.0.1:8443;"),
    ],
)
def test_init_says_who_can_reach_the_server(tmp_path, monkeypatch, capsys, listen, said):
    """A server would be open to the network, though the table of settings says loopback."""
    _type(monkeypatch, b"wonderland\n")
    plan = init.plan(tmp_path / "etc", ["localhost"], listen, "alice", None)
    init.init(plan, from_stdin=True, cost=4)
    assert f"workerd will listen {said}" in capsys.readouterr().out


def test_an_unknown_group_and_a_bad_address_are_refused(tmp_path):
    """The administrator would see a traceback."""
    with pytest.raises(errors.DaemonError, match="there is no group 'no such group'"):
        init.plan(tmp_path, [], ":8443", "alice", "no such group")
    with pytest.raises(errors.DaemonError, match="there is no group ''"):
        init.plan(tmp_path, [], ":8443", "alice", "")
    with pytest.raises(errors.DaemonError, match="--listen must be"):
        init.plan(tmp_path, [], "8443", "alice", None)
