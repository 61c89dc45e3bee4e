"""Starts the ranks of a training run with torchrun, as a process of its own, on this machine."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from streams.errors import TrainingError

POLL_S = 0.05
STOP_TIMEOUT_S = 5.0
LOG_TAIL_BYTES = 3000

EpochReport = Callable[[dict[str, float]], None]
"""Is told of each finished epoch: the line that rank 0 wrote to progress.jsonl."""


def torchrun_command(job_file: Path, ranks: int) -> list[str]:
    """Return the command line; torchrun picks a free port of the loopback interface."""
    return [
        sys.executable, "-m", "torch.distributed.run",
        "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(ranks),
        "-m", "training.rank", str(job_file),
    ]  # fmt: skip


def run_ranks(
    folder: Path, ranks: int, on_epoch: EpochReport, check: Callable[[], None] = lambda: None
) -> None:
    """Run the job in ``folder`` with ``ranks`` processes and wait until they end.

    ``check`` is called all the time while they run; it raises what is to end them.

    Raises:
        TrainingError: the ranks failed; it shows the end of their log.

    Whatever ends the wait early (Ctrl-C, an error in ``on_epoch`` or ``check``) ends the ranks too.
    """
    log_file = folder / "ranks.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            torchrun_command(folder / "job.json", ranks),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=rank_environment(),
            start_new_session=True,  # Ctrl-C comes to us alone, and we stop them in order
        )
        try:
            code = _wait(process, folder / "progress.jsonl", on_epoch, check)
        finally:
            _stop(process)
    if code:
        raise TrainingError(
            f"the {ranks} training ranks failed (exit status {code}); the end of {log_file}:\n"
            f"{_tail(log_file)}"
        )


def rank_environment() -> dict[str, str]:
    """Return the environment of torchrun and its ranks: one thread each, loopback only."""
    project = str(Path(__file__).resolve().parents[1])
    paths = [project, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
    }
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback:
        environment.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    return environment


def _wait(
    process: subprocess.Popen[bytes],
    progress_file: Path,
    on_epoch: EpochReport,
    check: Callable[[], None],
) -> int:
    told = 0
    while True:
        check()
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(POLL_S)
        lines = progress_file.read_bytes().splitlines() if progress_file.exists() else []
        for line in lines[told:]:
            on_epoch(json.loads(line))
        told = len(lines)
        if code is not None:
            return code


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()  # torchrun passes it on and waits for its ranks
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tail(path: Path) -> str:
    return path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip() or "(empty)"
