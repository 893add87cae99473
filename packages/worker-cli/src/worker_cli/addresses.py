"""Addresses of servers: one form for each, and https only."""

from __future__ import annotations

from urllib.parse import urlsplit

from worker_cli import errors

DEFAULT = "https://localhost:8443"


def normal(server: str) -> str:
    """Return the one form of a server's address, without a slash at its end.

    `host:port` is taken as https. Raises Untrusted for any other scheme, and SettingsError for
    what is no address.
    """
    text = server if "://" in server else f"https://{server}"
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise errors.SettingsError(f"{server!r} is no address of a server: {error}") from None
    if url.scheme.lower() != "https":
        raise errors.Untrusted(
            f"{server} is refused: passwords and output go over HTTPS only; "
            f"use https://{url.netloc.rpartition('@')[2]}"
        )
    if url.username is not None or url.password is not None:
        raise errors.SettingsError(
            "the server's address contains a user or a password; "
            "leave them out and use `worker login` or WORKER_PASSWORD"
        )
    if not host or url.query or url.fragment or not text.isprintable() or " " in text:
        raise errors.SettingsError(f"{server!r} is no address of a server; it looks like {DEFAULT}")
    named = f"[{host}]" if ":" in host else host
    return f"https://{named}{f':{port}' if port else ''}{url.path.rstrip('/')}"


def host(server: str) -> str:
    """Return the host in a server's address."""
    return urlsplit(server).hostname or ""


def port(server: str) -> int:
    """Return the port in a server's address."""
    return urlsplit(server).port or 443


def is_loopback(server: str) -> bool:
    """Whether the address is this machine's own."""
    name = host(server)
    return name in ("localhost", "::1") or name.startswith("127.")
