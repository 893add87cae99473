"""The border around waitress: what the edge uses of it is listed on one page, and still exists."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
import waitress.task
from worker_daemon import edge
from worker_daemon.edge import channel, server
from worker_daemon.edge.http1 import request_parser, responses

PAGE = (Path(edge.__file__).parent / "WAITRESS.md").read_text()
SUBCLASSES = [
    channel.TlsChannel,
    server.Listener,
    responses.ResponseWriter,
    responses.ErrorWriter,
]


def names(section):
    """Return the names in the first column of the tables of a section."""
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


SECTIONS = {
    title: names(text)
    for title, text in re.findall(r"^## (waitress\.\S+)\n(.*?)(?=^## )", PAGE, re.M | re.S)
}


def find(path):
    """Return a module or class of waitress."""
    parts = path.split(".")
    owner = importlib.import_module(".".join(parts[:2]))
    return getattr(owner, parts[2]) if len(parts) > 2 else owner


def assigned(cls):
    """Return the attributes that a class and its bases set on their instances."""
    trees = [ast.parse(inspect.getsource(each)) for each in cls.__mro__ if each is not object]
    return {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }


def has(owner, name):
    """Return whether a module, a class or its instances have a name."""
    return hasattr(owner, name) or (inspect.isclass(owner) and name in assigned(owner))


def base_of(cls):
    """Return the class of waitress that a class of the edge extends."""
    return next(each for each in cls.__mro__ if each.__module__.startswith("waitress."))


@pytest.mark.parametrize("section", SECTIONS)
def test_each_name_exists(section):
    """A release of waitress could make the server fail when a client does something unusual."""
    owner = find(section)
    assert SECTIONS[section]
    assert [name for name in SECTIONS[section] if not has(owner, name)] == []


@pytest.mark.parametrize("cls", SUBCLASSES)
def test_each_name_that_is_used_is_listed(cls):
    """A name that nobody checks would be missed in the next release of waitress."""
    base = base_of(cls)
    listed = SECTIONS[f"{base.__module__}.{base.__name__}"]
    tree = ast.parse(inspect.getsource(cls))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("self", "connection")
    } | {name for name in vars(cls) if name in vars(base)}
    own = {name for name in vars(cls) if name not in dir(base)}
    of_waitress = {name for name in used - own if has(base, name) and not name.startswith("__")} - {
        "__module__",
        "__doc__",
    }
    assert sorted(of_waitress - listed) == []


def test_the_request_parser_has_what_waitress_uses():
    """A request would end in an AttributeError instead of a response."""
    row = next(line for line in PAGE.splitlines() if "RequestParser`" in line)
    listed = re.findall(r"`(\w+)`", row.rpartition("|")[0].rpartition("|")[2])
    assert len(listed) > 10
    cls = request_parser.RequestParser
    assert [name for name in listed if not has(cls, name)] == []
    text = inspect.getsource(waitress.channel) + inspect.getsource(waitress.task)
    used = set(re.findall(r"\brequest\.(\w+)\b", text))
    assert used <= {*listed, "received"}


def test_only_the_edge_imports_waitress():
    """The page would not list all that depends on waitress."""
    package = Path(edge.__file__).parents[1]
    found = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) waitress\b", path.read_text(), re.MULTILINE)
    }
    assert found == {"edge"}
