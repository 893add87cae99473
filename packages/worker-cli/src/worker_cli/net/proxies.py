"""The proxy that requests go through, if the environment names one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from worker_cli import errors
from worker_cli.net import address

_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


def find(server: str) -> str | None:
    """Return the proxy for a server, None for a direct connection.

    A server on this machine is always connected to directly. Raises SettingsError for a proxy
    that cannot be used.
    """
    proxy = select_proxy(server, get_environ_proxies(server))
    if not proxy or address.is_loopback(server):
        return None
    if fault := _fault(proxy):
        raise errors.SettingsError(
            f"cannot use the proxy {without_password(proxy)!r}, which {_variable(proxy)} names: "
            f"{fault}; a proxy looks like http://HOST:PORT; set NO_PROXY={address.host(server)} "
            "to connect without it"
        )
    return proxy


def without_password(proxy: str) -> str:
    """Return the address of a proxy without the user and password that may be in it."""
    scheme, _, rest = proxy.rpartition("://")
    return (f"{scheme}://" if scheme else "") + rest.rpartition("@")[2]


def _fault(proxy: str) -> str | None:
    try:
        url = parse_url(prepend_scheme_if_needed(proxy, "http"))  # type: ignore[no-untyped-call]
        (url.host or "").encode("idna")
    except (HTTPError, ValueError):
        return "that is not an address"
    if not url.host:
        return "it has no host"
    if url.scheme in ("http", "https"):
        return None
    if (url.scheme or "").startswith("socks"):
        import importlib.util

        if importlib.util.find_spec("socks"):
            return None
        return "SOCKS needs the Python package PySocks, which is not installed"
    return f"{url.scheme} is not a kind of proxy"


def _variable(proxy: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the environment variable that a proxy's address comes from."""
    variables = (name for name in _VARIABLES if environ.get(name) == proxy)
    return next(variables, "the environment")
