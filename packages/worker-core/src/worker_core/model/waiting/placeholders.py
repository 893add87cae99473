"""Puts the item of an array's element into the spec that all elements share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from worker_core.model.waiting.array import Item

_FIELDS = ("command", "cwd", "name")
_NAMED = re.compile(r"\{([^{}]+)\}")

Replace = Callable[[str], str]


def filled(fields: Mapping[str, Any], item: Item | None) -> dict[str, Any]:
    """Return the fields of a spec with an item in its place.

    A text replaces `{}` in the command, an argument, the value of a variable, the working directory
    or the name. If none of them contains `{}`, the text becomes one more argument. In an object,
    each text replaces its name in braces. All other braces stay.
    """
    if item is None:
        return dict(fields)
    replace = _replacing(item)
    changed = {name: _text(fields.get(name), replace) for name in _FIELDS}
    args = [replace(each) for each in fields.get("args", ())]
    env = {name: replace(each) for name, each in fields.get("env", {}).items()}
    if isinstance(item, str) and not any("{}" in each for each in _texts(fields)):
        args.append(item)
    return dict(fields) | changed | {"args": args, "env": env}


def unused(fields: Mapping[str, Any], item: Item) -> list[str]:
    """Return the names of an object that do not occur in a spec, which is probably a mistake."""
    if isinstance(item, str):
        return []
    used = {name for text in _texts(fields) for name in _NAMED.findall(text)}
    return [name for name in item if name not in used]


def _replacing(item: Item) -> Replace:
    if isinstance(item, str):
        return lambda text: text.replace("{}", item) if "{}" in text else text

    def put(found: re.Match[str]) -> str:
        return item.get(found[1], found[0])

    return lambda text: _NAMED.sub(put, text) if "{" in text else text


def _text(value: str | None, replace: Replace) -> str | None:
    return None if value is None else replace(value)


def _texts(fields: Mapping[str, Any]) -> Iterator[str]:
    yield from (fields[name] for name in _FIELDS if fields.get(name) is not None)
    yield from fields.get("args", ())
    yield from fields.get("env", {}).values()
