"""`workerd`: serve until SIGTERM."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import faulthandler
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from worker_daemon import errors, logs, systemd
from worker_daemon.auth import known_addresses, verifier
from worker_daemon.command import check
from worker_daemon.edge import listeners
from worker_daemon.edge.tls import contexts
from worker_daemon.settings import config, open_files, paths, units

if TYPE_CHECKING:
    import worker_core

_log = logging.getLogger(__name__)

_CLOSING = 1.5  # seconds for everything after the last request
_RELOADED = {"cert", "key", "client_ca", "tls_min_version", "users", "log_level"}


def serve(settings: config.Config, load: Callable[[], config.Config]) -> int:
    """Serve in the foreground until SIGTERM or SIGINT, and return the exit code.

    Jobs keep running. `load` reads the settings again, for SIGHUP. Raises ConfigError with all
    faults before anything is started.
    """
    if faults := check.faults(settings):
        raise errors.ConfigError(faults)
    logs.set_up(settings.log_level, settings.log_format)
    for warning in check.warnings(settings):
        _log.warning("%s", warning)
    import worker_core

    with contextlib.ExitStack() as stack:
        passed = _passed()
        sockets = _sockets(settings, passed)
        opening = _engine_while_importing(settings, worker_core.DescriptorStore(passed))
        engine = stack.enter_context(opening)
        daemon = _Daemon(settings, load, engine, sockets)
        daemon.run()
    faulthandler.cancel_dump_traceback_later()
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    return 0


def _passed() -> list[tuple[str, int]]:
    import worker_core

    try:
        return worker_core.DescriptorStore.passed()
    except worker_core.WorkerError as error:
        raise errors.DaemonError(str(error)) from None


def _sockets(settings: config.Config, passed: list[tuple[str, int]]) -> list[socket.socket]:
    sockets = systemd.sockets(passed) or listeners.open_sockets(settings.listen)
    # Sockets from systemd may listen on other addresses than the settings name.
    if faults := check.exposure(settings, listeners.addresses(sockets)):
        raise errors.ConfigError(faults)
    return sockets


def _engine_while_importing(
    settings: config.Config, store: worker_core.DescriptorStore
) -> worker_core.Engine:
    """Open the engine, and import the rest while it waits for its supervisor."""
    import worker_core

    # Import the engine first and alone, so that the supervisor is started as early as possible: the
    # other imports then take place while it starts.
    _ = worker_core.Engine
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        opened = pool.submit(_engine, settings, store)
        importlib.import_module("worker_daemon.api.app")
        importlib.import_module("worker_daemon.edge.server")
        return opened.result()


def _engine(settings: config.Config, store: worker_core.DescriptorStore) -> worker_core.Engine:
    import worker_core

    limits = worker_core.EngineSettings(
        max_running=settings.max_running,
        shares=settings.shares,
        max_running_per_owner=settings.max_running_per_user,
        max_queued=settings.max_queued,
        max_queued_per_owner=settings.max_queued_per_user,
        output_limit=settings.output_limit,
        keep_age=settings.keep_age,
        keep_count=settings.keep_count or None,
        keep_bytes=settings.keep_bytes or None,
        keep_bytes_per_owner=settings.keep_bytes_per_user or None,
        no_new_privileges=settings.no_new_privileges,
        hidden_paths=_own_files(settings),
        start_supervisor=settings.supervisor == "own",
    )
    try:
        return worker_core.Engine(settings.state_dir, settings=limits, descriptor_store=store)
    except worker_core.WorkerError as error:
        raise errors.DaemonError(str(error)) from None
    except OSError as error:
        raise errors.DaemonError(
            f"cannot keep jobs in {settings.state_dir}: {error.strerror or error}"
        ) from None


def _own_files(settings: config.Config) -> list[str]:
    """Return where our settings, keys and users are, for jobs that must not reach them.

    A file is replaced when it is changed, and then no longer hidden from a job that runs. So the
    whole directory is returned where it is the one that workerd uses by itself.
    """
    try:
        ours = paths.config_dir()
    except errors.HomeError:
        ours = None
    files = (settings.source, settings.users, settings.key, settings.cert)
    absolute = (each.absolute() for each in files)
    found = (path.parent if path.parent == ours else path for path in absolute)
    return [str(each) for each in dict.fromkeys(found)]


def _watchdog() -> Callable[[float], None]:
    """Return a function that the main loop calls regularly, to notify systemd's watchdog."""
    interval = systemd.watchdog_interval()
    due = 0.0

    def beat(now: float) -> None:
        nonlocal due
        if interval is not None and now >= due:
            due = now + interval
            systemd.notify("WATCHDOG=1")

    return beat


def _limit_end(seconds: float) -> None:
    """End this process after a time even if something hangs; a traceback then shows where."""
    try:
        faulthandler.dump_traceback_later(seconds, exit=True)
    except RuntimeError:  # it cannot start its thread: end without a traceback
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


class _Daemon:
    """The running daemon, and its signal handlers."""

    def __init__(
        self,
        settings: config.Config,
        load: Callable[[], config.Config],
        engine: worker_core.Engine,
        sockets: list[socket.socket],
    ) -> None:
        from worker_daemon.api import app
        from worker_daemon.edge import server

        self._settings = settings
        self._load = load
        self._ending = False
        known = known_addresses.KnownAddresses(settings.state_dir)
        self._users = verifier.Verifier(settings.users, known=known)
        self._tls = contexts.Tls(settings)
        draining = threading.Event()
        # After the engine is open: its supervisor must not inherit the raised limit.
        shares = open_files.make_room(settings)
        application = app.create_app(
            engine, self._users, settings, draining=draining, downloads=shares.downloads
        )
        self._server = server.Server(
            application,
            settings,
            self._tls,
            sockets,
            draining=draining,
            on_tick=_watchdog(),
            may_send_body=application.may_send_body,
            shares=shares,
        )
        self._users.before_waiting = self._server.threads.leave_place

    def run(self) -> None:
        """Serve until a signal."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGHUP, lambda *_: self._server.call(self._reload))
        systemd.notify("READY=1", f"STATUS=listening on {self._url()}")
        sys.stderr.write(f"listening on {self._url()}\n")
        sys.stderr.flush()
        self._server.run()

    def _url(self) -> str:
        return f"https://{units.Address(self._settings.listen.host, self._server.port)}"

    def _end(self, number: int, _frame: object) -> None:
        """Drain at the first signal, exit at the second. This is a signal handler."""
        if self._ending:
            os._exit(128 + number)
        self._ending = True
        _limit_end(self._settings.drain_timeout + _CLOSING)
        systemd.notify("STOPPING=1")
        self._server.drain()

    def _reload(self) -> None:
        """Apply the settings that can change while serving; on any fault nothing changes."""
        systemd.notify_reloading()
        try:
            settings = self._load()
            if faults := check.faults(dataclasses.replace(settings, listen=self._settings.listen)):
                raise errors.ConfigError(faults)
            self._tls.reload(settings)
            self._users.reload(settings.users)
        except errors.DaemonError as error:
            for fault in str(error).splitlines():
                _log.error("not reloaded: %s", fault)
        else:
            self._warn_of_needed_restart(settings)
            self._settings = settings
            logs.set_level(settings.log_level)
            _log.info("reloaded certificate, users and log level")
        systemd.notify("READY=1")

    def _warn_of_needed_restart(self, settings: config.Config) -> None:
        before, after = dataclasses.asdict(self._settings), dataclasses.asdict(settings)
        for name in config.settings():
            if name not in _RELOADED and before[name] != after[name]:
                _log.warning("%s has changed; restart to apply it", name)
