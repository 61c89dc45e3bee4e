"""A torchrun agent that stays: it has torch imported, so that a training starts in no time.

Importing torch and what its optimizers and DDP need takes several seconds of processor time per
process; torchrun pays that anew in the agent and in each rank. This process runs the same elastic
agent (``torch.distributed.launcher``), job after job, and forks the ranks off a server process
that imported everything once and has no threads.

It is spoken to by :class:`training.loop.launch.WarmRanks`, in JSON lines. stdin:
``{"job", "ranks", "restarts"}``. stdout: ``{"event": "started"}``, then ``{"event": "finished",
"error": null or text}``. It ends at the end of stdin, taking running ranks with it, and after
``IDLE_S`` without a job.
"""

import json
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import threading
import traceback
import uuid
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, TextIO

IDLE_S = 300.0
MONITOR_INTERVAL_S = 0.02
_PRELOAD = [
    "training.loop.rank",
    "training.loop.agent",
    "torch._dynamo",
    "torch.distributed.elastic.multiprocessing.api",
]


def serve(answer: Callable[[dict[str, Any]], None], idle_s: float) -> None:
    """Run the jobs that come on stdin, one after another."""
    multiprocessing.set_forkserver_preload(_PRELOAD)
    forkserver.ensure_running()  # imports there while we import here
    requests: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_read_requests, args=(requests, busy), daemon=True).start()
    from torch.distributed.launcher.api import elastic_launch  # noqa: F401  (slow: before jobs)

    while True:
        try:
            request = requests.get(timeout=idle_s)
        except queue.Empty:
            return
        if request is None:
            return
        answer({"event": "started"})
        busy.set()
        error = run_job(Path(request["job"]), int(request["ranks"]), int(request["restarts"]))
        busy.clear()
        answer({"event": "finished", "error": error})


def run_job(job_file: Path, ranks: int, restarts: int) -> str | None:
    """Run one job with the elastic agent, which starts dead ranks again; return why it failed.

    Logs go to ranks.log.
    """
    from torch.distributed.elastic.multiprocessing import (
        DefaultLogsSpecs,
        SignalException,
        Std,
    )
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logs = job_file.parent / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",
        max_restarts=restarts,
        monitor_interval=MONITOR_INTERVAL_S,
        start_method="forkserver",
        shutdown_timeout=5,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects=Std.ALL),
    )
    try:
        elastic_launch(config, rank_entry)(str(job_file))
    except ChildFailedError as error:
        return f"rank {error.get_first_failure()[0]} failed"
    except SignalException as signalled:
        raise SystemExit(128 + signalled.sigval) from None
    except Exception:  # the agent lives on: the next job may be better
        return traceback.format_exc()
    finally:
        _gather_logs(logs, job_file.parent / "ranks.log")
    return None


def rank_entry(job_file: str) -> None:
    """Run a rank; what it raises is in its log."""
    try:
        from training.loop.rank import main

        main(Path(job_file))
    except BaseException:
        traceback.print_exc()
        raise


def _read_requests(
    requests: "queue.SimpleQueue[dict[str, Any] | None]", busy: threading.Event
) -> None:
    for line in sys.stdin:
        requests.put(json.loads(line))
    requests.put(None)
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGTERM)  # the elastic agent handles it and ends its ranks


def _gather_logs(folder: Path, into: Path) -> None:
    with into.open("wb") as out:
        for path in sorted(folder.rglob("*.log")):
            out.write(path.read_bytes())
    shutil.rmtree(folder, ignore_errors=True)


def _private_stdout() -> TextIO:
    """Return the real stdout, and send what anybody else prints there to stderr."""
    mine = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return mine


if __name__ == "__main__":
    out = _private_stdout()
    serve(lambda message: print(json.dumps(message), file=out, flush=True), float(sys.argv[1]))
