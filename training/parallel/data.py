"""Data parallel: every rank holds the whole network and computes a share of the batch."""

import contextlib
from collections.abc import Callable
from typing import Protocol

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.parallel.meshes import DATA, Meshes


class Gradients(Protocol):
    """How the gradients of a share meet those of the others."""

    def begin(self, rehearse: Callable[[], None]) -> None:
        """Prepare for the first pieces; ``rehearse`` does one of them and leaves no trace."""
        ...

    def piece(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return the context of one piece's forward and backward pass."""
        ...

    def finish(self) -> None:
        """Return when gradients have met: called after the last piece."""
        ...

    def passed(self) -> None:
        """Take note of a forward pass that no backward pass follows."""
        ...


class Alone:
    """There is one share: its gradients are the whole."""

    def begin(self, rehearse: Callable[[], None]) -> None:
        """Do nothing."""

    def piece(self, *, last: bool) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002
        """Return a context that does nothing."""
        return contextlib.nullcontext()

    def finish(self) -> None:
        """Do nothing."""

    def passed(self) -> None:
        """Do nothing."""


class Replicated:
    """DDP: buckets of gradients are averaged while the backward pass still goes on.

    Gradients are views of the buckets, so nothing is copied in between, and pieces before the last
    only add up locally.
    """

    def __init__(self, network: nn.Module, meshes: Meshes) -> None:
        on_gpu = [meshes.place.device] if meshes.place.device.type == "cuda" else None
        self.network = DistributedDataParallel(
            network,
            device_ids=on_gpu,
            process_group=meshes[DATA].get_group(),
            gradient_as_bucket_view=True,
        )
        self._ranks = meshes.data_ranks

    def begin(self, rehearse: Callable[[], None]) -> None:
        """Let DDP find its final buckets.

        It orders them anew after the first backward pass, and the order of three numbers' sum or
        more depends on where in a bucket they stand: without a rehearsal the first step after a
        restart would differ in its last bits from the same step of a run that went on.
        """
        if self._ranks > 2:
            rehearse()

    def piece(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return the context in which gradients stay here, or meet in the last piece."""
        if last:
            return contextlib.nullcontext()
        alone: contextlib.AbstractContextManager[None] = self.network.no_sync()
        return alone

    def finish(self) -> None:
        """Do nothing: DDP's backward pass has waited."""

    def passed(self) -> None:
        """Do nothing."""
