"""What a network costs per GPU and step in each kind of parallelism: a row each. Pure.

Every kind is given ``batch`` examples per rank that reads examples of its own; speed-up compares
examples per second with those of one rank. Nothing is taken to overlap but where it says so.
"""

from dataclasses import dataclass
from typing import Literal

from training.communication import (
    BACKWARD_SHARE,
    Machine,
    NetworkCost,
    Sizes,
    all_reduce_s,
    bubble,
    compute_s,
    exchange_s,
    gather_s,
    lesson_ratio,
    overlapped_s,
    speed_up,
)

Kind = Literal["DP", "FSDP", "TP", "PP", "EP"]
MICROBATCHES_PER_STAGE = 4


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest GPU."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        """All of it, without the allocator's waste and the library's own buffers."""
        return self.parameters + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True)
class Layout:
    """One kind of parallelism over ``ranks``: times in seconds, memory in bytes.

    ``bound`` is the speed-up where communication hides behind computation as far as it can;
    ``lesson`` is N/(1 + ρ), for data parallelism alone; ``idle`` a pipeline's bubble.
    """

    kind: Kind
    ranks: int
    step_s: float
    communication_s: float
    speed_up: float
    bound: float
    memory: Memory
    lesson: float | None = None
    idle: float | None = None


def layouts(
    cost: NetworkCost,
    machine: Machine,
    batch: int,
    ranks: int,
    sizes: Sizes | None = None,
    microbatches: int | None = None,
) -> list[Layout]:
    """Return the kinds that ``cost`` allows over ``ranks``, data parallelism first."""
    sizes = sizes or Sizes()
    rows = [data_parallel(cost, machine, batch, ranks, sizes)]
    if ranks == 1:
        return rows
    rows.append(sharded(cost, machine, batch, ranks, sizes))
    if cost.tensor_reduces:
        rows.append(tensor_parallel(cost, machine, batch, ranks, sizes))
    if cost.blocks >= ranks:
        pieces = microbatches or MICROBATCHES_PER_STAGE * ranks
        rows.append(pipeline_parallel(cost, machine, batch, ranks, sizes, pieces))
    if cost.expert_parameters:
        rows.append(expert_parallel(cost, machine, batch, ranks, sizes))
    return rows


def data_parallel(
    cost: NetworkCost, machine: Machine, batch: int, ranks: int, sizes: Sizes
) -> Layout:
    """Every rank holds all, and an all-reduce of the gradients ends the step (DDP).

    Memory: (parameters + gradients + optimiser)·P + activations. DDP's buckets are the gradients
    themselves where they are views of them; otherwise they come on top.
    """
    computing_s = compute_s(cost, machine, batch)
    reducing_s = all_reduce_s(cost.parameters * sizes.gradient, ranks, machine)
    ratio = lesson_ratio(cost, machine, batch, sizes.gradient) if ranks > 1 else 0.0
    return Layout(
        "DP",
        ranks,
        computing_s + reducing_s,
        reducing_s,
        speed_up(ranks, reducing_s / computing_s),
        ranks * computing_s / overlapped_s(computing_s, reducing_s),
        _memory(cost, batch, sizes, cost.parameters),
        lesson=speed_up(ranks, ratio),
    )


def sharded(cost: NetworkCost, machine: Machine, batch: int, ranks: int, sizes: Sizes) -> Layout:
    """Parameters, gradients and optimiser state in N shards (ZeRO stage 3, FSDP).

    Parameters are gathered forward and again backward, gradients scattered: 3(N−1)/N·P·size in
    place of 2(N−1)/N (Rajbhandari et al. 2020, section 7). Memory: all of it / N, and one block's
    whole parameters and gradients at a time.
    """
    computing_s = compute_s(cost, machine, batch)
    gathering_s = gather_s(cost.parameters * sizes.parameter, ranks, machine)
    scattering_s = gather_s(cost.parameters * sizes.gradient, ranks, machine)
    moving_s = 2 * gathering_s + scattering_s
    backward_s = BACKWARD_SHARE * computing_s
    hidden_s = max(computing_s - backward_s, gathering_s) + max(
        backward_s, gathering_s + scattering_s
    )
    shard, block = cost.parameters / ranks, cost.parameters / cost.blocks
    return Layout(
        "FSDP",
        ranks,
        computing_s + moving_s,
        moving_s,
        speed_up(ranks, moving_s / computing_s),
        ranks * computing_s / hidden_s,
        Memory(
            sizes.parameter * (shard + block),
            sizes.gradient * (shard + block),
            sizes.optimizer * shard,
            batch * cost.activation_bytes,
        ),
    )


def tensor_parallel(
    cost: NetworkCost, machine: Machine, batch: int, ranks: int, sizes: Sizes
) -> Layout:
    """Each block's matrices are cut over the ranks, which work on the same examples.

    Per block ``tensor_reduces`` all-reduces of its output forward, as many backward (Shoeybi et
    al. 2019); nothing hides them. Memory: all / N, of the activations what is inside a block.
    """
    computing_s = compute_s(cost, machine, batch)
    reduces = 2 * cost.tensor_reduces * cost.blocks
    moving_s = reduces * all_reduce_s(batch * cost.block_bytes, ranks, machine)
    step_s = computing_s / ranks + moving_s
    whole = min(cost.activation_bytes, cost.blocks * cost.block_bytes)  # what every rank keeps
    own = sizes.state * cost.parameters / ranks
    memory = Memory(
        own * sizes.parameter / sizes.state,
        own * sizes.gradient / sizes.state,
        own * sizes.optimizer / sizes.state,
        batch * (whole + (cost.activation_bytes - whole) / ranks),
    )
    faster = computing_s / step_s
    return Layout("TP", ranks, step_s, moving_s, faster, faster, memory)


def pipeline_parallel(
    cost: NetworkCost, machine: Machine, batch: int, ranks: int, sizes: Sizes, microbatches: int
) -> Layout:
    """The blocks are dealt out over p stages; m micro-batches flow through them (1F1B).

    step = T/p · (m+p−1)/m, and a hand-over of each micro-batch forward and backward. Memory of the
    first stage: 1/p of the state, and the activations of min(m, p) micro-batches (Narayanan et al.
    2021); GPipe keeps all m.
    """
    computing_s = compute_s(cost, machine, batch)
    idle = bubble(ranks, microbatches)
    working_s = computing_s / ranks / (1 - idle)
    hand_over_s = batch / microbatches * cost.block_bytes / machine.bandwidth + machine.latency_s
    moving_s = 2 * (microbatches + ranks - 2) * hand_over_s
    step_s = working_s + moving_s
    kept = min(microbatches, ranks) / microbatches * batch * cost.activation_bytes / ranks
    stage = cost.parameters / ranks
    memory = Memory(stage * sizes.parameter, stage * sizes.gradient, stage * sizes.optimizer, kept)
    return Layout(
        "PP",
        ranks,
        step_s,
        moving_s,
        computing_s / step_s,
        computing_s / working_s,
        memory,
        idle=idle,
    )


def expert_parallel(
    cost: NetworkCost, machine: Machine, batch: int, ranks: int, sizes: Sizes
) -> Layout:
    """The experts are dealt out over data-parallel ranks; examples travel to theirs and back.

    Four all-to-alls of what is routed, two forward and two backward (Lepikhin et al., "GShard",
    2020), and an all-reduce of the gradients of what is not expert.
    """
    computing_s = compute_s(cost, machine, batch)
    dense = cost.parameters - cost.expert_parameters
    reducing_s = all_reduce_s(dense * sizes.gradient, ranks, machine)
    routing_s = 4 * exchange_s(batch * cost.routed_bytes, ranks, machine)
    held = dense + cost.expert_parameters / ranks
    return Layout(
        "EP",
        ranks,
        computing_s + reducing_s + routing_s,
        reducing_s + routing_s,
        speed_up(ranks, (reducing_s + routing_s) / computing_s),
        ranks * computing_s / (overlapped_s(computing_s, reducing_s) + routing_s),
        _memory(cost, batch, sizes, held),
    )


def _memory(cost: NetworkCost, batch: int, sizes: Sizes, held: float) -> Memory:
    return Memory(
        held * sizes.parameter,
        held * sizes.gradient,
        held * sizes.optimizer,
        batch * cost.activation_bytes,
    )
