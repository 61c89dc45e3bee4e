"""How long communication takes beside computation, and what each GPU has to hold. Pure.

The lesson's model: per step a rank sends and receives its gradients, 2·P·size bytes over a link of
``bandwidth`` bytes/s, and computes ``flops`` floating point operations at ``FLOPS`` per second::

    ρ = (2·P·size / bandwidth) / (flops / FLOPS)      speed-up of N ranks = N / (1 + ρ)

Finer: a ring all-reduce moves 2(N−1)/N·P·size bytes per rank in 2(N−1) turns (Patarasuk and Yuan,
"Bandwidth optimal all-reduce algorithms", 2009), and the backward pass, two thirds of the work,
hides what it can (Li et al., "PyTorch Distributed", 2020). All times in seconds, sizes in bytes.
"""

from dataclasses import dataclass

from streams.errors import ConfigurationError

BACKWARD_SHARE = 2 / 3
"""Of a step's operations: two products of matrices backward for each one forward."""


@dataclass(frozen=True)
class Machine:
    """What the ranks run on.

    Args:
        bandwidth: of a rank's link, bytes/s in each direction.
        flops: floating point operations per second that a rank attains: peak × share.
        latency_s: of one message.
    """

    bandwidth: float
    flops: float
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigurationError."""
        if not (self.bandwidth > 0 and self.flops > 0 and self.latency_s >= 0):
            raise ConfigurationError(
                f"bandwidth {self.bandwidth:g} B/s, {self.flops:g} FLOPS, latency "
                f"{self.latency_s:g} s: the first two must be above 0, the last not below"
            )


@dataclass(frozen=True)
class Sizes:
    """Bytes per parameter of what a rank keeps; by default float32 and AdamW's two moments.

    bfloat16 or float16 with float32 master weights is 2, 2 and 12 (Rajbhandari et al., "ZeRO",
    2020, section 3.1).
    """

    parameter: int = 4
    gradient: int = 4
    optimizer: int = 8

    @property
    def state(self) -> int:
        """All of it."""
        return self.parameter + self.gradient + self.optimizer


@dataclass(frozen=True)
class NetworkCost:
    """What one example and one copy of a network cost.

    Args:
        parameters: how many there are.
        flops: floating point operations of one example, forward and backward.
        activation_bytes: kept for the backward pass per example.
        blocks: into how many pieces of about the same work it can be dealt out; 1 for none.
        block_bytes: what one block hands to the next per example.
        tensor_reduces: all-reduces of ``block_bytes`` that a block cut over ranks takes forward (as
            many backward): 2 in a Transformer (Shoeybi et al., "Megatron-LM", 2019), 0 where it
            can't be cut.
        expert_parameters: those of ``parameters`` that belong to experts.
        routed_bytes: what a mixture of experts sends to its experts per example, all layers.
    """

    parameters: int
    flops: float
    activation_bytes: float = 0.0
    blocks: int = 1
    block_bytes: float = 0.0
    tensor_reduces: int = 0
    expert_parameters: int = 0
    routed_bytes: float = 0.0


def lesson_ratio(cost: NetworkCost, machine: Machine, batch: int, gradient_bytes: int) -> float:
    """Return ρ = 2·P·size/bandwidth ÷ FLOPs/FLOPS for ``batch`` examples per rank and step."""
    return (2 * cost.parameters * gradient_bytes / machine.bandwidth) / compute_s(
        cost, machine, batch
    )


def compute_s(cost: NetworkCost, machine: Machine, batch: int) -> float:
    """Return the time of one step's operations on one rank: FLOPs / FLOPS."""
    return cost.flops * batch / machine.flops


def speed_up(ranks: int, ratio: float) -> float:
    """Return N / (1 + ρ): computation and communication one after the other.

    >>> speed_up(8, 0.25)
    6.4
    """
    return ranks / (1 + ratio)


def all_reduce_s(nbytes: float, ranks: int, machine: Machine) -> float:
    """Return the time of a ring all-reduce: 2(N−1)/N·bytes/bandwidth + 2(N−1)·latency."""
    turns = 2 * (ranks - 1)
    return turns / ranks * nbytes / machine.bandwidth + turns * machine.latency_s


def gather_s(nbytes: float, ranks: int, machine: Machine) -> float:
    """Return the time of a ring all-gather or reduce-scatter of ``nbytes`` in all: half of an
    all-reduce."""
    return all_reduce_s(nbytes, ranks, machine) / 2


def exchange_s(nbytes: float, ranks: int, machine: Machine) -> float:
    """Return the time of an all-to-all in which each rank holds ``nbytes``, of which (N−1)/N leave
    it (Thakur et al., "Optimization of collective communication operations in MPICH", 2005)."""
    turns = ranks - 1
    return turns / ranks * nbytes / machine.bandwidth + turns * machine.latency_s


def overlapped_s(computing_s: float, reducing_s: float) -> float:
    """Return the least time of a step whose all-reduce runs beside the backward pass.

    forward + max(backward, all-reduce): the bound that no bucketing can beat.
    """
    backward_s = BACKWARD_SHARE * computing_s
    return computing_s - backward_s + max(backward_s, reducing_s)


def bubble(stages: int, microbatches: int) -> float:
    """Return the share of a pipeline's time in which a stage waits: (p−1) / (m+p−1).

    Of GPipe (Huang et al. 2019) and 1F1B alike (Narayanan et al. 2021, without interleaving).

    >>> bubble(4, 12)
    0.2
    """
    return (stages - 1) / (microbatches + stages - 1)


def batch_for(cost: NetworkCost, machine: Machine, ratio: float, gradient_bytes: int) -> int:
    """Return the smallest batch per rank at which ρ is no more than ``ratio``."""
    return max(1, -int(-lesson_ratio(cost, machine, 1, gradient_bytes) // ratio))


def bandwidth(text: str) -> float:
    """Return bytes/s of a preset ("nvlink") or a figure: "25GB/s", "100Gb/s" (bits), "2.5e9".

    Raises:
        ConfigurationError: it is neither.
    """
    known = BANDWIDTHS.get(text.lower())
    return known if known is not None else _figure(text, _RATES, ", ".join(BANDWIDTHS))


def operations(text: str) -> float:
    """Return operations per second of "312TFLOPS", "19.5T", "50GFLOPS" or "3e12".

    Raises:
        ConfigurationError: it is no such figure.
    """
    return _figure(text, _FLOPS, "the name of a GPU")


BANDWIDTHS = {
    "nvlink": 450e9,  # fourth generation (H100), each direction
    "nvlink3": 300e9,  # A100
    "pcie": 32e9,  # generation 4, 16 lanes
    "pcie5": 64e9,
    "infiniband": 50e9,  # NDR, 400 Gb/s
    "ethernet": 1.25e9,  # 10 Gb/s
    "ethernet100": 12.5e9,  # 100 Gb/s
}
"""Nominal bytes/s of one link in one direction."""

_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_RATES = {
    **{f"{p}B/s": factor for p, factor in _PREFIXES.items()},
    **{f"{p}b/s": factor / 8 for p, factor in _PREFIXES.items()},
    "": 1.0,
}
_FLOPS = {
    **{f"{p}FLOPS": factor for p, factor in _PREFIXES.items()},
    **_PREFIXES,
}


def _figure(text: str, units: dict[str, float], otherwise: str) -> float:
    stripped = text.strip()
    for unit in sorted(units, key=len, reverse=True):
        if stripped.endswith(unit):
            number = stripped.removesuffix(unit).strip()
            try:
                value = float(number) * units[unit]
            except ValueError:
                continue
            if value > 0:
                return value
    examples = ", ".join(f"2{unit}" for unit in list(units)[1:5])
    raise ConfigurationError(f"{text!r} is no figure: write for example {examples}, or {otherwise}")
