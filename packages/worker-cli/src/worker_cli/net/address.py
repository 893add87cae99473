"""Server addresses: parsed, normalized, and https only."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from worker_cli import errors

if TYPE_CHECKING:
    import ipaddress

DEFAULT = "https://localhost:8443"


def normalized(server: str) -> str:
    """Return the normal form of a server's address, without a slash at its end.

    An address without a scheme, such as `host:port`, gets https. Raises Untrusted for any other
    scheme, and SettingsError for an invalid address.
    """
    text = server if "://" in server else f"https://{server}"
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise errors.SettingsError(f"invalid server address {server!r}: {error}") from None
    if url.scheme.lower() != "https":
        raise errors.Untrusted(
            f"cannot use {server}: passwords and output are sent over HTTPS only; "
            f"use https://{url.netloc.rpartition('@')[2]}"
        )
    if url.username is not None or url.password is not None:
        raise errors.SettingsError(
            "the server's address contains a user or a password; "
            "leave them out and use `worker login` or WORKER_PASSWORD"
        )
    if not host or port == 0 or url.query or url.fragment or not text.isprintable() or " " in text:
        raise errors.SettingsError(
            f"invalid server address {server!r}; an address looks like {DEFAULT}"
        )
    bracketed = f"[{host}]" if ":" in host else host
    return f"https://{bracketed}{f':{port}' if port else ''}{url.path.rstrip('/')}"


def host(server: str) -> str:
    """Return the host in a server's address."""
    return urlsplit(server).hostname or ""


def port(server: str) -> int:
    """Return the port in a server's address."""
    return urlsplit(server).port or 443


def is_loopback(server: str) -> bool:
    """Return whether the address is this machine's own, however it is written.

    No name is resolved: behind a proxy there is often no name server.
    """
    name = host(server).removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _ip_address(name.partition("%")[0])
    # On Linux, connecting to 0.0.0.0 or :: reaches this machine.
    return address is not None and (address.is_loopback or address.is_unspecified)


def _ip_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that a text stands for, None for a name."""
    import ipaddress
    import socket

    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            # getaddrinfo(3) also accepts the old forms, such as 127.1 and 0x7f000001.
            address = ipaddress.ip_address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None
    return getattr(address, "ipv4_mapped", None) or address
