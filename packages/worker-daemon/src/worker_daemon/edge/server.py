"""The server: its listening sockets, its main loop, and how it ends.

WAITRESS.md in this directory lists what it uses of waitress.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from waitress import adjustments, server, wasyncore

from worker_daemon.auth import verifier
from worker_daemon.edge import channel, epoll, workers
from worker_daemon.edge.shares import connection_groups, known_networks, log_limit
from worker_daemon.edge.tls import contexts, handshake
from worker_daemon.settings import config, open_files

_log = logging.getLogger(__name__)

_ACCEPT = 20  # connections accepted in one turn of the loop
_FEW = 4  # the first of these, which are accepted even if the client has left
_DROP = 100  # connections that are closed at once in one turn, because the client has left
_PATIENCE = 1.0  # seconds that a connection may be idle while others wait for its place
_TICK = 0.5  # seconds between two checks of all deadlines
_TICK_DRAINING = 0.05  # the same, while the server drains
# Seconds after which a thread must let another one run Python code. A thread that parses a long
# body would otherwise delay each of several steps of another request by 5 ms, Python's default.
_SWITCH_INTERVAL = 0.0005
_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A client that follows output may be silent for days. This notices that its machine is gone.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


_Groups = connection_groups.ConnectionGroups[channel.TlsChannel]


class Listener(server.TcpWSGIServer):
    """A listening socket. Its connections are `TlsChannel`s."""

    channel_class = channel.TlsChannel
    active_channels: Any
    effective_port: Any
    _map: Any

    def __init__(self, sock: socket.socket, owner: Server, adj: Any) -> None:
        self.settings = owner.settings
        self.draining = owner.draining
        self.serving = threading.local()  # `channel`: the connection that a worker thread serves
        self.may_send_body = owner.may_send_body
        self.call = owner.call
        self.unauthenticated = owner.unauthenticated
        self.authenticated = owner.authenticated
        self.known_networks = owner.known_networks
        self.leave_place = owner.threads.leave_place
        self._tls = owner.tls
        self._accepted = self._dropped = 0  # connections in this turn
        self._full = False  # whether there is no place for a new connection
        sockinfo = (sock.family, sock.type, sock.proto, sock.getsockname())
        super().__init__(
            owner.application,
            owner.map,
            _sock=sock,
            dispatcher=owner.threads,  # type: ignore[arg-type]  # has what waitress calls
            adj=adj,
            sockinfo=sockinfo,
            bind_socket=False,
        )

    def wake(self) -> None:
        """Wake the main loop."""
        super().pull_trigger()

    def pull_trigger(self) -> None:
        """Have the main loop ask what the connection of the calling thread waits for."""
        serving = getattr(self.serving, "channel", None)
        if serving is not None:
            if self._map.up_to_date(serving):
                return  # most responses are written completely, and leave nothing to the loop
            self._map.changed(serving)
        self.wake()

    def context(self) -> Any:
        """Return the TLS context of the next connection."""
        return self._tls.context

    def readable(self) -> bool:
        """Return whether there is a place for a new connection, or one that can be cleared."""
        if not self.accepting:
            return False
        full = len(self._map) >= self.adj.connection_limit
        full = full and not (self.unauthenticated or self.authenticated.oldest(1) or self._idle())
        if full and not self._full:
            _log.warning("no place for new connections: all %d are in use", len(self._map))
        self._full = full
        return not full

    def came(self, connection: channel.TlsChannel) -> None:
        """Add a new connection. If there are too many, in all or of its network, close another."""
        if len(self._map) > self.adj.connection_limit:
            self._make_room()
        self.unauthenticated.add(connection, connection.network)
        limit = self.settings.max_unauthenticated_per_address
        excess = self.unauthenticated.excess(connection, limit)
        if excess is not None:
            excess.abandon()

    def _make_room(self) -> None:
        """Close a connection without a login, or an idle one, or one of the user with the most.

        A client that opens many connections must not be able to shut out others. An eighth of the
        places is left to clients that have yet to log in: for those, idle connections are closed,
        and those of a user who has more than half of all places.
        """
        limit = self.adj.connection_limit
        few = 8 * len(self.unauthenticated) < limit
        chosen = (
            (few and (self._idle() or self.authenticated.oldest(limit // 2)))
            or self.unauthenticated.oldest()
            or self._idle()
            or self.authenticated.oldest(1)
        )
        if chosen:
            chosen.break_off()

    def _idle(self) -> channel.TlsChannel | None:
        idle = [c for c in self.active_channels.values() if c.idle and c.quiet() > _PATIENCE]
        return max(idle, key=channel.TlsChannel.quiet, default=None)

    def handle_accept(self) -> None:
        """Accept the connections that wait, as far as there are places."""
        self._dropped = 0
        for self._accepted in range(_ACCEPT):
            before = len(self._map)
            super().handle_accept()
            if len(self._map) == before or not self.readable():
                return

    def accept(self) -> Any:
        """Return the next socket and its address, None if there is none.

        When many connections wait, some of their clients have left already. Those are closed here,
        before they cost ten times as much.
        """
        while self._dropped < _DROP:
            accepted: Any = super().accept()
            few = self._accepted < _FEW
            if accepted is None or few or not handshake.client_has_left(accepted[0]):
                return accepted
            accepted[0].close()
            self._dropped += 1
        return None

    def fix_addr(self, addr: Any) -> Any:
        """Return the IPv4 address of an IPv4 client that connected to an IPv6 socket."""
        return (addr[0].removeprefix("::ffff:"), *addr[1:]) if "." in addr[0] else addr

    def stop(self) -> None:
        """Stop listening; open connections stay."""
        wasyncore.dispatcher.close(self)


class Server:
    """Serves a WSGI application over TLS on sockets that are already listening.

    `run` is the main loop. Signal handlers may call `drain` and `call`. `draining` is set when no
    new connections are accepted any more: long responses should end then. The loop calls `on_tick`
    about twice a second. The server calls `may_send_body` before it reads a body that may be long,
    with the method, the Authorization header and the address; it returns the name of the user, or
    raises Problem to refuse.
    """

    def __init__(
        self,
        application: Any,
        settings: config.Config,
        tls_state: contexts.Tls,
        sockets: Iterable[socket.socket],
        *,
        draining: threading.Event | None = None,
        on_tick: Callable[[float], None] | None = None,
        may_send_body: Callable[[str, str | None, str], str] = lambda *_: "",
        clock: Callable[[], float] = time.monotonic,
        shares: open_files.Shares | None = None,
    ) -> None:
        self.application = application
        self.settings = settings
        self.tls = tls_state
        self.draining = draining or threading.Event()
        self.map = epoll.Loop()
        self.threads = workers.WorkerPool(
            settings.threads + settings.max_long_requests + verifier.MOST_ASIDE
        )
        self.may_send_body = may_send_body
        # Connections by network until a user logs in, then by user.
        self.unauthenticated: _Groups = connection_groups.ConnectionGroups()
        self.authenticated: _Groups = connection_groups.ConnectionGroups()
        self.known_networks = known_networks.KnownNetworks()
        self._log_limit = log_limit.LogLimit()
        self._on_tick = on_tick
        self._clock = clock
        self._asked_to_drain = self._ended = False
        self._ending = threading.RLock()
        self._calls: list[Callable[[], None]] = []
        sockets = list(sockets)
        adj = _adjustments(settings, sockets, shares or open_files.make_room(settings))
        self._listeners = [Listener(sock, self, adj) for sock in sockets]

    @property
    def port(self) -> int:
        """The port of the first socket."""
        return int(self._listeners[0].effective_port)

    def drain(self) -> None:
        """Ask the loop to accept no more connections, to finish requests, and to end."""
        self._asked_to_drain = True
        self._wake()

    def call(self, function: Callable[[], None]) -> None:
        """Have the loop call `function` soon."""
        self._calls.append(function)
        self._wake()

    def _wake(self) -> None:
        # Without a thunk, waitress's trigger takes no lock. A signal handler must not wait for a
        # lock that the code it interrupted may hold. The same thread may take this one twice.
        with self._ending:
            if not self._ended:
                self._listeners[0].wake()

    def run(self) -> None:
        """Serve until `drain` is called and all requests have finished, or their time is up."""
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self._log_limit.install()
        tick = end = 0.0
        while not (self.draining.is_set() and (not self._channels() or self._clock() > end)):
            self.map.turn(_TICK_DRAINING if self.draining.is_set() else _TICK)
            for listener in self._listeners:
                self.map.changed(listener)  # whether it accepts depends on all connections
            while self._calls:
                self._calls.pop(0)()
            now = self._clock()
            if self._asked_to_drain and not self.draining.is_set():
                end = now + self.settings.drain_timeout
                self._stop_accepting()
            if now >= tick or self.draining.is_set():
                tick = now + _TICK
                self._check_deadlines(now)
                self._log_limit.report(now)
                self.map.ask_all()
                if self._on_tick is not None:
                    self._on_tick(now)
        self._close()

    def _stop_accepting(self) -> None:
        _log.info("shutting down: requests have %g s to finish", self.settings.drain_timeout)
        for listener in self._listeners:
            listener.stop()
        self.draining.set()

    def _check_deadlines(self, now: float) -> None:
        for connection in self._channels():
            if self.draining.is_set() and connection.drained(now):
                connection.abandon()
            elif connection.expired(now):
                connection.handle_close()
            elif connection.login_ended():
                _log.info("broke off a response to %s: its login has ended", connection.addr[0])
                connection.break_off()

    def _channels(self) -> list[channel.TlsChannel]:
        return [c for listener in self._listeners for c in listener.active_channels.values()]

    def _close(self) -> None:
        late = self._channels()
        if late:
            _log.warning("closing %d connections that did not finish in time", len(late))
        for connection in late:
            connection.abandon()
        self.threads.shutdown(timeout=1)
        self._log_limit.remove()
        with self._ending:
            self._ended = True
            for listener in self._listeners:
                listener.close()
            self.map.close()


def _adjustments(
    settings: config.Config, sockets: list[socket.socket], shares: open_files.Shares
) -> Any:
    adj = adjustments.Adjustments(
        sockets=sockets,
        ident=None,  # no Server header
        url_scheme="https",
        recv_bytes=channel.RECORD,
        channel_request_lookahead=1,  # goes on reading, to notice that a client leaves
        connection_limit=shares.connections,
        cleanup_interval=1 << 30,  # `Server` checks deadlines itself
        log_socket_errors=False,
        max_request_header_size=settings.max_header + 1,
        max_request_body_size=settings.max_body + 1,
        # So many bytes of a response wait in memory; then the application waits for the client.
        # The overflow is larger, so that nothing is ever written to a temporary file.
        outbuf_high_watermark=256 << 10,
        outbuf_overflow=1 << 20,
    )
    adj.socket_options = _SOCKET_OPTIONS
    # For the request parser, which gets nothing else of the server.
    adj.stored_bodies = threading.BoundedSemaphore(shares.bodies)  # type: ignore[attr-defined]
    return adj
