"""Starts a few Gloo ranks on the loopback interface and lets each run a list of functions."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from training.loop.launch import rank_environment

Work = Callable[[int, Path], None]
"""Is called on every rank, with the rank and a folder for what it finds."""

TIMEOUT_S = 240.0


def world(ranks: int, folder: Path, work: Sequence[Work]) -> None:
    """Let ``ranks`` processes do all of ``work`` in order; raises AssertionError with the trace
    of the first that failed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.parallel.cases", "torch._dynamo"])
    processes = [
        context.Process(target=_rank, args=(rank, ranks, folder, list(work)))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT_S)
    stuck = [process for process in processes if process.is_alive()]
    for process in stuck:
        process.kill()
    traces = sorted(folder.glob("failed-*"), key=lambda path: path.stat().st_mtime)
    failed = [path.read_text() for path in traces]
    assert not failed, failed[0]
    assert not stuck, f"{len(stuck)} of {ranks} ranks did not end in {TIMEOUT_S} s"
    assert [process.exitcode for process in processes] == [0] * ranks


def _rank(rank: int, ranks: int, folder: Path, work: list[Work]) -> None:
    import torch
    import torch.distributed as dist

    os.environ.update(rank_environment())
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=ranks
    )
    try:
        for function in work:
            function(rank, folder)
    except BaseException:
        (folder / f"failed-{rank}").write_text(traceback.format_exc())
        os._exit(1)
    dist.destroy_process_group()
