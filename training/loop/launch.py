"""Starts the ranks of a training run on this machine: with torchrun, cold or kept warm.

:class:`Torchrun` runs torchrun once. :class:`WarmRanks` keeps torchrun's agent in a process that
has torch imported (:mod:`training.loop.agent`): for whoever trains again and again. Measured on 2
busy cores, 2 ranks, 60,000 examples: 15 s cold, 2.6 s warm.
"""

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from streams.errors import TrainingError
from training.loop.waiting import (
    LOG_TAIL_BYTES,
    POLL_S,
    EpochTeller,
    failure,
    stop,
    wait,
)
from training.loop.waiting import Check as Check
from training.loop.waiting import EpochReport as EpochReport

RESTARTS = 2


def go_on() -> None:
    """Let the ranks run to their end: the check of whoever has none."""


class Launcher(Protocol):
    """Runs the job in a folder with a number of ranks; raises TrainingError where they fail."""

    def __call__(
        self, folder: Path, ranks: int, on_epoch: EpochReport, check: Check = go_on
    ) -> None:
        """Return when all ranks have ended well."""
        ...


@dataclass(frozen=True)
class Torchrun:
    """A launcher that runs torchrun once per job.

    A rank that dies takes its group down, and torchrun starts all ranks anew: the run goes on from
    its last checkpoint, with the ranks that there are then.

    Args:
        restarts: so often at most.
        nodes: how many machines take part, "1" or "MIN:MAX"; each runs this launcher on the same
            folder, which they share. The run goes on with fewer, and with those that come back.
        rendezvous: where the machines meet, "host:port" of one of them; needed for several. One
            machine meets itself on the loopback interface.
    """

    restarts: int = RESTARTS
    nodes: str = "1"
    rendezvous: str | None = None

    def __post_init__(self) -> None:
        """Check that machines can meet; raises TrainingError."""
        if self.nodes != "1" and self.rendezvous is None:
            raise TrainingError(
                f"ranks on {self.nodes} machines need a place to meet: give rendezvous='host:port' "
                "with the address of one of them"
            )

    def __call__(
        self, folder: Path, ranks: int, on_epoch: EpochReport, check: Check = go_on
    ) -> None:
        """Run the job in ``folder`` with ``ranks`` processes per machine and wait for their end.

        Raises:
            TrainingError: the ranks failed; it shows the end of their log.

        Whatever ends the wait early (Ctrl-C, an error in ``on_epoch`` or ``check``) ends the ranks.
        """
        here = "" if self.rendezvous is None else f"-{socket.gethostname()}"
        log_file = folder / f"ranks{here}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                self.command(folder / "job.json", ranks),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=rank_environment(loopback=self.rendezvous is None),
                start_new_session=True,  # Ctrl-C comes to us alone, and we stop them in order
            )
            try:
                code = wait(process, EpochTeller(folder, on_epoch), check)
            finally:
                stop(process)
        if code:
            raise failure(log_file, ranks, f"exit status {code}")

    def command(self, job_file: Path, ranks: int) -> list[str]:
        """Return the command line; on one machine torchrun picks a free port of loopback."""
        meeting = (
            ["--standalone", "--local-addr", "127.0.0.1"]
            if self.rendezvous is None
            else [
                "--nnodes", self.nodes, "--rdzv-backend", "c10d",
                "--rdzv-endpoint", self.rendezvous, "--rdzv-id", run_name(job_file),
            ]
        )  # fmt: skip
        return [
            sys.executable, "-m", "torch.distributed.run",
            *meeting, "--nproc-per-node", str(ranks), "--max-restarts", str(self.restarts),
            "-m", "training.loop.rank", str(job_file),
        ]  # fmt: skip


run_ranks = Torchrun()
"""The launcher of whoever trains now and then, on this machine."""


def run_name(job_file: Path) -> str:
    """Return the name by which machines know that they run the same job: part of its digest."""
    try:
        return str(json.loads(job_file.read_bytes())["digest"])[:16]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{job_file} is not a training job: {error!r}") from error


class WarmRanks:
    """A launcher whose process stays between jobs, for up to ``idle_s`` seconds; then it goes,
    and comes back with the next job. One job at a time; dead ranks are started again like
    :class:`Torchrun`'s."""

    def __init__(self, idle_s: float = 300.0, restarts: int = RESTARTS) -> None:
        self._idle_s, self._restarts = idle_s, restarts
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Begin to import torch, and do not wait for it."""
        self.warm_up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self.close()

    def warm_up(self) -> None:
        """Start the process where it does not run."""
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "training.loop.agent", str(self._idle_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=rank_environment(),
            start_new_session=True,
        )

    def close(self) -> None:
        """End the process, and the ranks if any run."""
        if self._process is not None:
            stop(self._process)
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        if self._log is not None:
            self._log.close()
        self._process = self._log = None

    def __call__(
        self, folder: Path, ranks: int, on_epoch: EpochReport, check: Check = go_on
    ) -> None:
        """Run the job in ``folder``; raises TrainingError where the ranks fail."""
        job = {"job": str(folder / "job.json"), "ranks": ranks, "restarts": self._restarts}
        request = json.dumps(job).encode() + b"\n"
        tell = EpochTeller(folder, on_epoch)

        def meanwhile() -> None:
            check()
            tell()

        try:
            if not (self._begins(request, check) or self._begins(request, check)):
                raise TrainingError(f"the training agent does not start:\n{self._agent_log()}")
            answer = self._answer(meanwhile)
            tell()
            if answer is None:
                raise failure(
                    folder / "ranks.log", ranks, f"their agent ended: {self._agent_log()}"
                )
        except BaseException:
            self.close()
            raise
        if answer["error"]:
            raise failure(folder / "ranks.log", ranks, str(answer["error"]))

    def _begins(self, request: bytes, check: Check) -> bool:
        """Hand over a request; False where the process, idle for too long, ended just then."""
        self.warm_up()
        pipe = self._running().stdin
        with contextlib.suppress(BrokenPipeError):
            if pipe is not None:
                pipe.write(request)
                pipe.flush()
        return self._answer(check) is not None

    def _answer(self, meanwhile: Callable[[], object]) -> dict[str, object] | None:
        """Wait for the next line of the process; None where it ended."""
        pipe = self._running().stdout
        if pipe is None:
            return None
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not selector.select(POLL_S):
                meanwhile()
        line = pipe.readline()
        answer: dict[str, object] | None = json.loads(line) if line else None
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise TrainingError("the training agent was closed while a job was on its way")
        return self._process

    def _agent_log(self) -> str:
        if self._log is None:
            return "(no log)"
        self._log.seek(0)
        return self._log.read()[-LOG_TAIL_BYTES:].decode(errors="replace").strip() or "(empty)"


def rank_environment(*, loopback: bool = True) -> dict[str, str]:
    """Return the environment of torchrun and its ranks: one thread each, loopback as a rule."""
    project = str(Path(__file__).resolve().parents[2])
    stated = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # With what the pipeline file can import: a network of the user's own may lie beside it.
    own = [path for path in sys.path if Path(path).is_dir() and not _installed(path)]
    paths = dict.fromkeys([project, *filter(None, stated), *filter(None, own)])
    environment = {
        # The allocator keeps what a step frees for the next: given back to the system, each batch
        # and each activation costs its page faults anew (6 % of a step with 4 micro-batches).
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        # A store per attempt: in one that outlives them (torch 2.15's default) ranks that are
        # started again find the addresses of the dead.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
    }
    interfaces = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback and interfaces:
        environment.setdefault("GLOO_SOCKET_IFNAME", interfaces[0])
    return environment


def _installed(path: str) -> bool:
    """Return whether an entry of ``sys.path`` belongs to the interpreter or its environment."""
    return any(Path(path).is_relative_to(place) for place in (sys.prefix, sys.base_prefix))
