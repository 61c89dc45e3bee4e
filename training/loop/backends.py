"""Joins the ranks: NCCL between GPUs, Gloo between CPUs, MPI where torch was built with it."""

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist

from streams.errors import TrainingError
from training.loop.precision import compute_dtype
from training.loop.run_folder import Backend
from training.parallel.place import Place
from training.spec import Precision

VARIABLE = "KAPPA_BACKEND"
_NAMES = ("auto", "nccl", "gloo", "mpi")


@contextlib.contextmanager
def joined(precision: Precision, backend: Backend = "auto") -> Iterator[Place]:
    """Join the other ranks that torchrun's environment names, and leave them at the end.

    The environment variable KAPPA_BACKEND decides where it is set. With MPI the ranks are those
    that mpirun started.

    Raises:
        TrainingError: there is no such backend here.
    """
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = _device(local_rank, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    chosen = choose(os.environ.get(VARIABLE) or backend, device)
    _deterministic()
    if ranks == 1 and chosen != "mpi":
        yield Place(0, 1, device, compute_dtype(precision, device))
        return
    dist.init_process_group(chosen)
    if chosen == "mpi":
        rank, ranks = dist.get_rank(), dist.get_world_size()
    try:
        yield Place(rank, ranks, device, compute_dtype(precision, device))
    finally:
        dist.destroy_process_group()


def choose(name: str, device: torch.device) -> str:
    """Return the backend called ``name`` for messages between ranks that compute on ``device``.

    Raises:
        TrainingError: it is unknown, not built in, or can't carry what lies on the device.
    """
    if name not in _NAMES:
        raise TrainingError(
            f"{name!r} is no backend of the ranks ({VARIABLE} or the job names it): "
            f"{', '.join(_NAMES)}"
        )
    chosen = name if name != "auto" else "nccl" if device.type == "cuda" else "gloo"
    built_in = {
        "nccl": dist.is_nccl_available, "gloo": dist.is_gloo_available, "mpi": dist.is_mpi_available
    }[chosen]()  # fmt: skip
    if not built_in:
        raise TrainingError(
            f"the backend {chosen!r} is not built into this torch {torch.__version__}"
            + (": it takes a torch compiled with MPI" if chosen == "mpi" else "")
            + f"; set {VARIABLE} to another, or to auto"
        )
    if chosen == "nccl" and device.type != "cuda":
        raise TrainingError(
            f"the backend 'nccl' is between GPUs, and a rank here has none of its own; set "
            f"{VARIABLE}=gloo, or start as many ranks as there are GPUs"
        )
    return chosen


def _device(local_rank: int, local_ranks: int) -> torch.device:
    if not (torch.cuda.is_available() and torch.cuda.device_count() >= local_ranks):
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _deterministic() -> None:
    # cuBLAS is deterministic only with a workspace of its own; read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_num_threads(1)  # sums in the same order on every machine
