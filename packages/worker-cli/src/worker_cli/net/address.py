"""Addresses of servers: one form for each, and https only."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from worker_cli import errors

if TYPE_CHECKING:
    import ipaddress

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
    if not host or port == 0 or url.query or url.fragment or not text.isprintable() or " " in text:
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
    """Return whether the address is this machine's own, however it is written.

    That is decided without asking for the addresses of a name: where there is a proxy, there is
    often nobody to ask.
    """
    name = host(server).removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _address(name.partition("%")[0])
    # Connecting to the address for every interface reaches this machine (Linux).
    return address is not None and (address.is_loopback or address.is_unspecified)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that a text stands for, None for a name."""
    import ipaddress
    import socket

    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            # Also the old forms, as 127.1 and 0x7f000001, which connect(2)'s helpers take.
            address = ipaddress.ip_address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None
    return getattr(address, "ipv4_mapped", None) or address
