"""What a pipeline file says of how its network is spread over the ranks. No torch here."""

from dataclasses import dataclass
from typing import Literal

from streams.errors import DefinitionError

PipelineSchedule = Literal["1f1b", "gpipe"]


@dataclass(frozen=True)
class Parallel:
    """The mesh of the ranks: data × pipeline × tensor. What is left over is data parallel.

    Args:
        shard: keep parameters, gradients and optimiser state in shards over the data ranks (FSDP2)
            rather than whole on each (DDP).
        tensor: over how many ranks each layer is cut.
        pipeline: over how many ranks the layers are dealt out.
        expert: over how many of the data ranks the experts of a mixture are dealt out.
        schedule: of the pipeline: ``"1f1b"`` or ``"gpipe"``.
        microbatches: into how many pieces a pipeline cuts a batch; None for four per stage.
    """

    shard: bool = False
    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    schedule: PipelineSchedule = "1f1b"
    microbatches: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        for name in ("tensor", "pipeline", "expert"):
            if getattr(self, name) < 1:
                raise DefinitionError(f"Parallel({name}={getattr(self, name)}): at least 1")
        if self.microbatches is not None and self.microbatches < self.pipeline:
            raise DefinitionError(
                f"Parallel(microbatches={self.microbatches}, pipeline={self.pipeline}): at least "
                "as many micro-batches as stages, or stages would never work at the same time"
            )

    def data_ranks(self, ranks: int) -> int:
        """Return into how many shares a batch is cut; raises DefinitionError where none fits."""
        share = self.tensor * self.pipeline
        data, left = divmod(ranks, share)
        if left or not data:
            raise DefinitionError(
                f"{ranks} ranks can't hold a mesh of {self.pipeline} pipeline by {self.tensor} "
                f"tensor ranks: their number must be a multiple of {share}"
            )
        if data % self.expert:
            raise DefinitionError(
                f"Parallel(expert={self.expert}): {data} data ranks can't be cut into groups of it"
            )
        return data
