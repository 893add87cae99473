"""waitress as the daemon uses it: TLS connections, a loop that ends cleanly, threads that grow."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from waitress import adjustments, server, wasyncore

from worker_daemon.auth import verifier
from worker_daemon.edge import channel, epoll, tls, unauthenticated, workers
from worker_daemon.settings import config, open_files

_log = logging.getLogger(__name__)

_ACCEPT = 64  # connections accepted in one turn
_PATIENCE = 1.0  # seconds that a connection may do nothing when others wait for its place
_TICK = 0.5  # seconds between two looks at the clock
_HURRY = 0.05  # the same, while the daemon ends
_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A follower may be silent for days; a machine that vanished without a word is noticed so.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


class Listener(server.TcpWSGIServer):
    """One listening socket. Its connections are `TlsChannel`s."""

    channel_class = channel.TlsChannel
    active_channels: Any
    effective_port: Any
    _map: Any

    def __init__(self, sock: socket.socket, owner: Server, adj: Any) -> None:
        self.settings = owner.settings
        self.draining = owner.draining
        self.serving = threading.local()  # its `channel` is what a task thread serves
        self.admit = owner.admit
        self.call = owner.call
        self.unauthenticated = owner.unauthenticated
        self.leave_place = owner.threads.leave_place
        self._tls = owner.tls
        self._stuck = False  # whether there is no place for a new connection
        sockinfo = (sock.family, sock.type, sock.proto, sock.getsockname())
        super().__init__(
            owner.application,
            owner.map,
            _sock=sock,
            dispatcher=owner.threads,  # type: ignore[arg-type]  # it gives out tasks like the other
            adj=adj,
            sockinfo=sockinfo,
            bind_socket=False,
        )

    def wake(self) -> None:
        """Have the main loop turn."""
        super().pull_trigger()

    def pull_trigger(self) -> None:
        """Have the main loop look at the connection that the calling thread serves."""
        serving = getattr(self.serving, "channel", None)
        if serving is not None:
            if self._map.up_to_date(serving):
                return  # most answers are written whole, and leave nothing to the loop
            self._map.changed(serving)
        self.wake()

    def context(self) -> Any:
        """Return the TLS context of the next connection."""
        return self._tls.context

    def readable(self) -> bool:
        """Return whether a new connection has a place, or can be given that of another."""
        if not self.accepting:
            return False
        full = len(self._map) >= self.adj.connection_limit
        stuck = full and self.unauthenticated.first() is None and self._idle() is None
        if stuck and not self._stuck:
            _log.warning("no place for new connections: all %d are at work", len(self._map))
        self._stuck = stuck
        return not stuck

    def came(self, connection: channel.TlsChannel) -> None:
        """Count a new connection; close another if there are too many, in all or of its network."""
        if len(self._map) > self.adj.connection_limit:
            self._make_room()
        self.unauthenticated.add(connection, connection.addr[0])
        limit = self.settings.max_unauthenticated_per_address
        excess = self.unauthenticated.excess(connection, limit)
        if excess is not None:
            excess.abandon()

    def _make_room(self) -> None:
        """Close a connection that has not logged in, or else the one that is idle for longest.

        Whoever opens many connections must not be able to shut out others who need one. Idle
        connections leave an eighth of the places to those who have yet to log in.
        """
        few = 8 * len(self.unauthenticated) < self.adj.connection_limit
        chosen = (few and self._idle()) or self.unauthenticated.first() or self._idle()
        if chosen:
            chosen.abandon()

    def _idle(self) -> channel.TlsChannel | None:
        idle = [c for c in self.active_channels.values() if c.idle and c.quiet() > _PATIENCE]
        return max(idle, key=channel.TlsChannel.quiet, default=None)

    def handle_accept(self) -> None:
        """Accept what is waiting, not more than there is room for."""
        for _ in range(_ACCEPT):
            before = len(self._map)
            super().handle_accept()
            if len(self._map) == before or not self.readable():
                return

    def fix_addr(self, addr: Any) -> Any:
        """Return the address of an IPv4 client as IPv4, also when it comes to an IPv6 socket."""
        return (addr[0].removeprefix("::ffff:"), *addr[1:]) if "." in addr[0] else addr

    def stop(self) -> None:
        """Accept no more; open connections stay."""
        wasyncore.dispatcher.close(self)


class Server:
    """Serves a WSGI application over TLS on sockets that listen already.

    `run` is the main loop; `drain` and `call` may be used by signal handlers. `draining` is set
    once no new connection is accepted: whoever follows a job's output should end then. `on_tick`
    is called by the loop about twice a second. `admit` is called before a body is taken that may
    be long, with method, Authorization header and address; it raises Problem for whom it refuses.
    """

    def __init__(
        self,
        application: Any,
        settings: config.Config,
        tls_state: tls.Tls,
        sockets: Iterable[socket.socket],
        *,
        draining: threading.Event | None = None,
        on_tick: Callable[[float], None] | None = None,
        admit: Callable[[str, str | None, str], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
        shares: open_files.Shares | None = None,
    ) -> None:
        self.application = application
        self.settings = settings
        self.tls = tls_state
        self.draining = draining or threading.Event()
        self.map = epoll.Loop()
        self.threads = workers.Threads(
            settings.threads + settings.max_long_requests + verifier.MOST_ASIDE
        )
        self.admit = admit
        self.unauthenticated: unauthenticated.Unauthenticated[channel.TlsChannel] = (
            unauthenticated.Unauthenticated()
        )
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
        """Ask the loop to stop accepting, to let requests finish, and to end."""
        self._asked_to_drain = True
        self._wake()

    def call(self, function: Callable[[], None]) -> None:
        """Have the loop call `function` soon."""
        self._calls.append(function)
        self._wake()

    def _wake(self) -> None:
        # Without a thunk this takes no lock of waitress's: a signal handler must not wait for one
        # that the code under it may hold. The one here may be taken twice by the same thread.
        with self._ending:
            if not self._ended:
                self._listeners[0].wake()

    def run(self) -> None:
        """Serve until `drain` was asked for and all requests have finished, or their time is up."""
        tick = end = 0.0
        while not (self.draining.is_set() and (not self._channels() or self._clock() > end)):
            self.map.turn(_HURRY if self.draining.is_set() else _TICK)
            for listener in self._listeners:
                self.map.changed(listener)  # whether it accepts depends on all the others
            while self._calls:
                self._calls.pop(0)()
            now = self._clock()
            if self._asked_to_drain and not self.draining.is_set():
                end = now + self.settings.drain_timeout
                self._stop_accepting()
            if now >= tick or self.draining.is_set():
                tick = now + _TICK
                self._look_at_the_clock(now)
                self.map.ask_all()
                if self._on_tick is not None:
                    self._on_tick(now)
        self._close()

    def _stop_accepting(self) -> None:
        _log.info("ending: requests have %g s to finish", self.settings.drain_timeout)
        for listener in self._listeners:
            listener.stop()
        self.draining.set()

    def _look_at_the_clock(self, now: float) -> None:
        for connection in self._channels():
            if self.draining.is_set() and connection.spent(now):
                connection.abandon()
            elif connection.expired(now):
                connection.handle_close()
            elif connection.barred():
                _log.info("broke off an answer to %s: its login counts no more", connection.addr[0])
                connection.break_off()

    def _channels(self) -> list[channel.TlsChannel]:
        return [c for listener in self._listeners for c in listener.active_channels.values()]

    def _close(self) -> None:
        late = self._channels()
        if late:
            _log.warning("ending %d connections that did not finish in time", len(late))
        for connection in late:
            connection.abandon()
        self.threads.shutdown(timeout=1)
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
        channel_request_lookahead=1,  # keeps reading while a request runs: so a hang-up is seen
        connection_limit=shares.connections,
        cleanup_interval=1 << 30,  # `Server` looks at the clock itself
        log_socket_errors=False,
        max_request_header_size=settings.max_header + 1,
        max_request_body_size=settings.max_body + 1,
        # An answer waits in memory up to here; a reader that is slow for longer holds the
        # application up. Below the overflow, so that nothing is ever written to a temporary file.
        outbuf_high_watermark=256 << 10,
        outbuf_overflow=1 << 20,
    )
    adj.socket_options = _SOCKET_OPTIONS
    # For http1_reader, which knows nothing else of the server.
    adj.stored_bodies = threading.BoundedSemaphore(shares.bodies)  # type: ignore[attr-defined]
    return adj
