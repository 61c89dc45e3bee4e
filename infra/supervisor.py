"""Runs the processes of a pipeline on one machine: starts, restarts and stops them."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

import structlog

from streams.errors import WorkerError
from streams.settings import Settings

ROLES = ("features", "inference", "shadow", "monitor", "trainer")
"""The roles of a pipeline of one key, in the order in which data pass through them."""

EXIT_USER_MUST_ACT = 78
"""Exit status (EX_CONFIG) of a worker whom no restart helps: declaration or setting is wrong."""

EXIT_BROKER_AWAY = 69
"""Exit status (EX_UNAVAILABLE) of a worker to which no broker answers: tried until one does."""

LOG_LIMIT_BYTES = 10_000_000
TAIL_BYTES = 2_000
POLL_S = 0.05

State = Literal["waiting", "running", "stopped", "failed"]


@dataclass(frozen=True)
class RestartPolicy:
    """When a process that died is started again. All times in seconds.

    The n-th restart in a row waits ``first_wait_s · 2ⁿ⁻¹``, at most ``longest_wait_s``. A process
    that ran for ``healthy_after_s`` begins at zero again; ``quick_deaths`` in a row without
    that are too many. One that found no broker is no such death: it is tried again after
    ``away_wait_s``, for as long as that lasts.
    """

    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    healthy_after_s: float = 10.0
    quick_deaths: int = 5
    away_wait_s: float = 10.0

    def wait_s(self, deaths: int) -> float:
        """Return the wait before the restart that follows ``deaths`` ≥ 1 quick deaths in a row."""
        return min(self.longest_wait_s, self.first_wait_s * 2.0 ** (deaths - 1))


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """How one process stands; ``pid`` is None while it does not run."""

    role: str
    pid: int | None
    state: State
    restarts: int


@dataclass
class _Worker:
    role: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    state: State = "waiting"
    restarts: int = 0
    quick_deaths: int = 0
    started_at: float = 0.0
    start_at: float = field(default_factory=time.monotonic)


class Supervisor:
    """The processes of one pipeline; a context manager that starts and stops them.

    Args:
        module: the pipeline's module or file, as ``-p`` takes it.
        name: the pipeline's name, which names its folder of logs.
        settings: passed on to the processes, as environment.
        bootstrap: the broker that they shall use.
        roles: the roles to run, one process each.
        policy: when to restart, when to give up.
        stop_within_s: after that long, processes that were asked to stop are killed.
        command: role → command line; by default ``kappa worker``.
        environment: role → further variables of its environment.

    The processes end with this one, even when it is killed (:mod:`infra.lifeline`).
    """

    def __init__(
        self,
        module: str,
        name: str,
        settings: Settings,
        bootstrap: str,
        roles: Sequence[str] = ROLES,
        policy: RestartPolicy | None = None,
        stop_within_s: float = 30.0,
        command: Callable[[str], list[str]] | None = None,
        environment: Callable[[str], Mapping[str, str]] | None = None,
    ) -> None:
        self.logs = settings.pipeline_home(name) / "logs"
        self._command = command or partial(worker_command, module)
        self._environment = {
            **os.environ,
            "KAPPA_HOME": str(settings.home.resolve()),
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "PYTHONUNBUFFERED": "1",
        }
        # A port is one process's: all can't have ours.
        self._environment.pop("KAPPA_METRICS_PORT", None)
        self._own_environment = environment or (lambda _: {})
        self._policy = policy or RestartPolicy()
        self._stop_within_s = stop_within_s
        self._workers = [_Worker(role, self.logs / f"{role}.log") for role in roles]
        self._failure: str | None = None
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = structlog.get_logger()

    def __enter__(self) -> Self:
        """Start all processes."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop all processes."""
        self.stop()

    def start(self) -> None:
        """Start every process once; returns when they run (not when they are ready)."""
        self.logs.mkdir(parents=True, exist_ok=True)
        # All children are started by this one thread, since Linux ties their end to the thread.
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()
        self._started.wait()

    def add(self, roles: Sequence[str]) -> None:
        """Start those of the roles that do not run yet."""
        known = {worker.role for worker in self._workers}
        new = [_Worker(role, self.logs / f"{role}.log") for role in roles if role not in known]
        self._workers = [*self._workers, *new]

    def stop(self) -> None:
        """Stop the processes, the last role first; kill what does not end in time."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def status(self) -> list[ProcessStatus]:
        """Return how each process stands, in the order of the roles."""
        return [
            ProcessStatus(
                worker.role,
                worker.process.pid if worker.process and worker.state == "running" else None,
                worker.state,
                worker.restarts,
            )
            for worker in self._workers
        ]

    def check(self) -> None:
        """Raise WorkerError, with the end of its log, when a process is beyond help."""
        if self._failure is not None:
            raise WorkerError(self._failure)

    def _supervise(self) -> None:
        try:
            while not self._stopping.is_set():
                for worker in self._workers:
                    self._look_after(worker)
                self._started.set()
                self._stopping.wait(POLL_S)
        except OSError as error:
            self._failure = f"the processes can't be supervised: {error}; logs are in {self.logs}"
        finally:
            self._started.set()
            self._stop_all()

    def _look_after(self, worker: _Worker) -> None:
        now = time.monotonic()
        if worker.state == "waiting" and now >= worker.start_at:
            self._launch(worker)
        elif worker.state == "running" and worker.process and worker.process.poll() is not None:
            self._plan_restart(worker, worker.process.returncode, now)

    def _launch(self, worker: _Worker) -> None:
        if worker.log.exists() and worker.log.stat().st_size > LOG_LIMIT_BYTES:
            worker.log.replace(worker.log.with_suffix(".log.1"))
        with worker.log.open("ab") as log:
            worker.process = self._popen(worker.role, log)
        worker.state = "running"
        worker.started_at = time.monotonic()
        self._log.debug("process started", role=worker.role, pid=worker.process.pid)

    def _popen(self, role: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command(role),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**self._environment, **self._own_environment(role)},
            start_new_session=True,  # Ctrl-C is for us alone; we stop them in order
        )

    def _plan_restart(self, worker: _Worker, status: int, now: float) -> None:
        # What it started itself (the ranks of a training) must not outlive it.
        _signal_group(worker.process, signal.SIGKILL)
        ran_s = now - worker.started_at
        if status == EXIT_BROKER_AWAY:
            worker.quick_deaths = 0
            worker.state, worker.start_at = "waiting", now + self._policy.away_wait_s
            self._log.debug("no broker answers, trying again", role=worker.role)
            return
        worker.quick_deaths = (
            1 if ran_s >= self._policy.healthy_after_s else worker.quick_deaths + 1
        )
        if status == EXIT_USER_MUST_ACT or worker.quick_deaths >= self._policy.quick_deaths:
            worker.state = "failed"
            self._failure = self._failure or _failure_text(worker, status)
            return
        wait_s = self._policy.wait_s(worker.quick_deaths)
        worker.state, worker.start_at = "waiting", now + wait_s
        worker.restarts += 1
        self._log.warning(
            "process died, restarting",
            role=worker.role,
            status=_status_text(status),
            after_s=round(ran_s, 1),
            wait_s=wait_s,
            log=str(worker.log),
        )

    def _stop_all(self) -> None:
        """Ask all at once, the last role first: each then has the whole time for itself.

        One after the other, seven processes took 14 s on a busy machine, most of it waiting for
        the broker to let a member of a group go; the last ones were killed for want of time.
        """
        deadline = time.monotonic() + self._stop_within_s
        running = [
            (worker, worker.process)
            for worker in reversed(self._workers)
            if worker.process is not None and worker.process.poll() is None
        ]
        for _, process in running:
            process.terminate()  # it ends its children itself; the group only if it can't
        for worker, process in running:
            self._await_end(worker, process, deadline)
        for worker in self._workers:
            if worker.state != "failed":
                worker.state = "stopped"

    def _await_end(
        self, worker: _Worker, process: subprocess.Popen[bytes], deadline: float
    ) -> None:
        try:
            process.wait(max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._log.warning("process did not stop in time, killed", role=worker.role)
        _signal_group(process, signal.SIGKILL)
        process.wait()


def worker_command(module: str, role: str) -> list[str]:
    """Return the command line of a role's process that ends when this one does."""
    return [
        sys.executable, "-m", "kappa", "worker", role,
        "-p", module, "--parent-pid", str(os.getpid()),
    ]  # fmt: skip


def _signal_group(process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    if process is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _failure_text(worker: _Worker, status: int) -> str:
    often = (
        "and no restart will help"
        if status == EXIT_USER_MUST_ACT
        else f"{worker.quick_deaths} times in a row, shortly after its start"
    )
    tail = read_tail(worker.log)
    return (
        f"the {worker.role} process ended ({_status_text(status)}) {often}; "
        f"the end of {worker.log}:\n{tail}"
    )


def _status_text(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def read_tail(path: Path, size: int = TAIL_BYTES) -> str:
    """Return the whole lines in the last ``size`` bytes of a text file, "" if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            start = max(0, file.tell() - size)
            file.seek(start)
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return text.partition("\n")[2] if start else text
