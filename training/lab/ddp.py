"""Data parallelism: images per second on 1 to N ranks, beside what the communication model says.

``python -m training.lab.ddp`` needs torch and numpy alone (and matplotlib for ``--out``).
"""

from dataclasses import dataclass
from typing import Any

from training.communication import (
    Machine,
    NetworkCost,
    all_reduce_s,
    lesson_ratio,
    overlapped_s,
    speed_up,
)
from training.lab import charts
from training.lab.entry import entry
from training.lab.hardware import peak_flops
from training.lab.launch import run
from training.lab.ratios import faster, middle
from training.lab.report import Chart, Report, Table, megabytes, milliseconds
from training.lab.workload import Workload, resnet50

GRADIENT_BYTES = 4


@dataclass(frozen=True)
class Ddp:
    """What is measured.

    Args:
        workload: what is trained.
        name: how the report calls it.
        ranks: the largest number of ranks; 1, 2, 4, ... and this one are measured.
        batch: examples per rank and step.
        steps: per timing.
        rounds: of timings; medians are reported.
        accumulate: micro-batches per all-reduce where they are accumulated.
        precision: of the forward pass.
    """

    workload: Workload
    name: str
    ranks: int
    batch: int
    steps: int
    rounds: int
    accumulate: int = 4
    precision: str = "float32"

    @property
    def counts(self) -> list[int]:
        """The numbers of ranks."""
        powers = [2**i for i in range(self.ranks.bit_length()) if 2**i < self.ranks]
        return [*powers, self.ranks]


def ddp(full: bool, ranks: int) -> Ddp:
    """Return the exercise in full, for GPUs, or in the size of a CPU."""
    if full:
        return Ddp(
            resnet50(), "ResNet-50, 224 x 224, 1000 classes", ranks, 128, 10, 5,
            precision="bfloat16",
        )  # fmt: skip
    return Ddp(
        resnet50(16, 64, 10),
        "ResNet-50 of width 16 (of 64) on images of 64 x 64 (of 224 x 224), 10 classes: "
        "a small size, for CPUs",
        ranks, 32, 3, 5,
    )  # fmt: skip


def measure(settings: Ddp) -> dict[str, Any]:
    """Return the figures: measured, and predicted from what one rank and the link were seen to do.

    Raises:
        TrainingError: the ranks failed.
    """
    from training.lab.counting import cost_of

    cost = cost_of(settings.workload)
    measured = run(
        "training.lab.scaling",
        {
            "workload": settings.workload.to_json(),
            "counts": settings.counts,
            "batch": settings.batch,
            "steps": settings.steps,
            "rounds": settings.rounds,
            "accumulate": settings.accumulate,
            "precision": settings.precision,
        },
        settings.ranks,
    )
    return {**measured, "rows": rows_of(settings, cost, measured), "cost": vars(cost)}


def rows_of(settings: Ddp, cost: NetworkCost, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Return per number of ranks what was measured and what is predicted."""
    alone = measured["seconds"]["1"]
    rows = []
    for ranks in settings.counts:
        seconds = measured["seconds"][str(ranks)]
        row: dict[str, Any] = {
            "ranks": ranks,
            "examples_per_s": ranks * settings.batch / middle(seconds["step"]),
            "speed_up": ranks * faster(alone["step"], seconds["step"]),
            "without_all_reduce": ranks * faster(alone["step"], seconds["apart"]),
            "accumulated": ranks * faster(alone["accumulated"], seconds["accumulated"]),
            "matmuls": ranks * faster(alone["matmul"], seconds["matmul"]),
            "step_s": middle(seconds["step"]),
            "flops_per_s": settings.batch * cost.flops / middle(seconds["step"]),
        }
        row["efficiency"] = row["speed_up"] / ranks
        peak = peak_flops(measured["machine"]["device"], settings.precision)
        row["mfu"] = row["flops_per_s"] / peak if peak and measured["on_gpu"] else None
        if ranks > 1:
            row |= predicted(settings, cost, alone, seconds, ranks)
        rows.append(row)
    return rows


def predicted(
    settings: Ddp,
    cost: NetworkCost,
    alone: dict[str, list[float]],
    seconds: dict[str, list[float]],
    ranks: int,
) -> dict[str, float]:
    """Return the model's figures, of the bandwidth that the all-reduce itself was seen to reach."""
    step_s = middle(alone["step"])
    nbytes = cost.parameters * GRADIENT_BYTES
    latency_s = middle(seconds["small"]) / (2 * (ranks - 1))
    turns = 2 * (ranks - 1)
    moving_s = max(middle(seconds["reduce"]) - turns * latency_s, 1e-9)
    machine = Machine(
        bandwidth=turns / ranks * nbytes / moving_s,
        flops=settings.batch * cost.flops / step_s,
        latency_s=latency_s,
    )
    reducing_s = all_reduce_s(nbytes, ranks, machine)
    ratio = lesson_ratio(cost, machine, settings.batch, GRADIENT_BYTES)
    apart_s = middle(seconds["apart"])
    return {
        "bandwidth": machine.bandwidth,
        "latency_s": latency_s,
        "all_reduce_s": reducing_s,
        "ratio": ratio,
        "predicted": speed_up(ranks, ratio),
        "predicted_ring": speed_up(ranks, reducing_s / step_s),
        "predicted_bound": ranks * step_s / overlapped_s(step_s, reducing_s),
        "predicted_shared": ranks * step_s / (apart_s + reducing_s),
    }


def report(settings: Ddp, figures: dict[str, Any]) -> Report:
    """Return the report of :func:`measure`'s figures."""
    rows = figures["rows"]
    last = rows[-1]
    speed = Table(
        f"Speed-up over one rank; {settings.batch} examples per rank and step",
        [
            "ranks", "per s", "step", "speed-up", "efficiency",
            f"{settings.accumulate} accum.", "no reduce",
            *(["MFU"] if last["mfu"] is not None else []),
        ],
        [
            [
                str(row["ranks"]),
                f"{row['examples_per_s']:,.0f}",
                milliseconds(row["step_s"]),
                f"{row['speed_up']:.2f}",
                f"{row['efficiency']:.0%}",
                f"{row['accumulated']:.2f}",
                f"{row['without_all_reduce']:.2f}",
                *([f"{row['mfu']:.0%}"] if row["mfu"] is not None else []),
            ]
            for row in rows
        ],
    )  # fmt: skip
    several = [row for row in rows if row["ranks"] > 1]
    model = Table(
        "The communication model, from one rank's step and the all-reduce's own speed",
        [
            "ranks", "reduce", "GB/s", "rho", "N/(1+rho)", "ring", "overlap", "shared", "measured",
        ],
        [
            [
                str(row["ranks"]),
                milliseconds(row["all_reduce_s"]),
                f"{row['bandwidth'] / 1e9:.2f}",
                f"{row['ratio']:.3f}",
                f"{row['predicted']:.2f}",
                f"{row['predicted_ring']:.2f}",
                f"{row['predicted_bound']:.2f}",
                f"{row['predicted_shared']:.2f}",
                f"{row['speed_up']:.2f}",
            ]
            for row in several
        ],
    )  # fmt: skip
    counts = [float(row["ranks"]) for row in rows]
    curves: dict[str, tuple[list[float], list[float]]] = {
        "predicted: ideal": (counts, counts),
        "predicted: N/(1+rho)": (counts, [1.0, *(row["predicted"] for row in several)]),
        "predicted: overlap": (counts, [1.0, *(row["predicted_bound"] for row in several)]),
        "measured": (counts, [row["speed_up"] for row in rows]),
        f"measured, {settings.accumulate} batches accumulated": (
            counts, [row["accumulated"] for row in rows],
        ),
    }  # fmt: skip

    return Report(
        title="Data parallelism: speed-up over ranks",
        facts=_facts(settings, figures),
        tables=[speed, model] if several else [speed],
        remarks=_remarks(last, figures["on_gpu"]),
        charts=[
            Chart(
                "speed-up.png",
                "Speed-up over ranks",
                lambda path: charts.lines(
                    path, "Speed-up over ranks", ("ranks", "speed-up"), curves
                ),
            )
        ],
        figures=figures,
    )


def _facts(settings: Ddp, figures: dict[str, Any]) -> dict[str, str]:
    return {
        "network": settings.name,
        "parameters": f"{figures['cost']['parameters']:,}, gradients "
        f"{megabytes(figures['gradient_bytes'])}",
        "operations": f"{figures['cost']['flops'] / 1e9:.3g} GFLOP per example, forward and "
        "backward",
        "precision": settings.precision,
        "timing": f"medians of {settings.rounds} rounds of {settings.steps} steps",
        "backend": f"{figures['backend']}" + ("" if figures["on_gpu"] else ", one thread per rank"),
        **figures["machine"],
    }


def _remarks(last: dict[str, Any], on_gpu: bool) -> list[str]:
    remarks = [
        "rho = (2·P·size/bandwidth) / (FLOPs/FLOPS). *ring* counts 2(N-1)/N·P·size; *overlap* "
        "is the bound where the all-reduce hides behind the backward pass; *shared* "
        "takes the ranks' own step without all-reduce, as they run beside each other on cores and "
        "memory that they share, in place of one rank's; *accum.* has one all-reduce for "
        "several batches (no_sync), *no reduce* none."
    ]
    if last["ranks"] > 1 and not on_gpu:
        remarks.append(
            f"Without any all-reduce {last['ranks']} ranks reach {last['without_all_reduce']:.2f}, "
            f"and plain products of matrices {last['matmuls']:.2f}: what is missing from "
            f"{last['ranks']} there, cores, caches and memory shared by the ranks took, and other "
            "programs of this machine; not communication."
        )
    return remarks


def main() -> None:
    """Measure on this machine and print the figures."""
    given = entry(__doc__ or "")
    settings = ddp(given.full, given.ranks)
    given.tell(report(settings, measure(settings)))


if __name__ == "__main__":
    main()
