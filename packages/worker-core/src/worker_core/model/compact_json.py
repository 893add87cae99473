"""JSON without spaces, in ASCII: what is stored, and what engine and supervisor tell each other."""

from __future__ import annotations

import json

_ENCODER = json.JSONEncoder(separators=(",", ":"))  # json.dumps would make one each time


def encode(value: object) -> str:
    """Return the JSON text of a value; what is not ASCII, and what stands for bytes, is escaped."""
    return _ENCODER.encode(value)
