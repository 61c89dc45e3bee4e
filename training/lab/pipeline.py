"""Pipeline parallelism: the bubble and the memory of GPipe and 1F1B, measured beside the theory.

``python -m training.lab.pipeline`` needs torch and numpy alone (and matplotlib for ``--out``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.communication import bubble
from training.lab import charts
from training.lab.entry import CPU_RANKS, entry
from training.lab.intervals import Interval, Work, bubble_of, played
from training.lab.launch import run
from training.lab.ratios import faster, middle
from training.lab.report import Chart, Report, Table, megabytes, milliseconds
from training.lab.workload import Workload, network
from training.networks.declared import Transformer
from training.networks.shape import Shape

NAMES = {"gpipe": "GPipe", "1f1b": "1F1B"}
FULL_SHAPE = Shape(96, (1000, 100), Transformer(last=512, width=1024, layers=24, heads=16))
DRAWN = 8
"""Micro-batches of the timeline: few enough to be seen."""


@dataclass(frozen=True)
class PipelineLab:
    """What is measured.

    Args:
        workload: a Transformer on made-up events.
        name: how the report calls it.
        stages: p.
        microbatches: the values of m, each at least p.
        rows: examples per micro-batch.
        rounds: steps measured of each; medians are reported.
    """

    workload: Workload
    name: str
    stages: int
    microbatches: tuple[int, ...]
    rows: int
    rounds: int


def pipeline(full: bool, ranks: int) -> PipelineLab:
    """Return the exercise in full, for GPUs, or in the size of a CPU."""
    stages = max(CPU_RANKS, ranks)
    several = tuple(stages * factor for factor in (1, 2, 4, 8))
    if full:
        name = "Transformer of 24 layers, width 1024, 512 events"
        return PipelineLab(network(FULL_SHAPE), name, stages, several, 8, 5)
    shape = Shape(12, (50,), Transformer(last=32, width=64, layers=24, heads=4))
    name = "Transformer of 24 layers, width 64, 32 events: a small size, for CPUs"
    return PipelineLab(network(shape), name, stages, several, 4, 5)


def measure(settings: PipelineLab) -> dict[str, Any]:
    """Return the figures of both schedules; raises TrainingError where the ranks fail."""
    measured = run(
        "training.lab.stages",
        {
            "workload": settings.workload.to_json(),
            "microbatches": list(settings.microbatches),
            "rows": settings.rows,
            "rounds": settings.rounds,
        },
        settings.stages,
    )
    return {**measured, "rows": rows_of(measured)}


def rows_of(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Return per schedule and number of micro-batches what was measured and what is predicted."""
    rows = []
    stages = measured["stages"]
    for found in measured["runs"]:
        steps = [_intervals(step["intervals"]) for step in found["steps"]]
        bubbles = [bubble_of(step) for step in steps]
        lengths_s = [max(i.end_s for i in step) for step in steps]
        microbatches = found["microbatches"]
        alone_s = [microbatches * step["microbatch_s"] for step in found["steps"]]
        schedule = played(found["schedule"], microbatches, times_of(steps, stages))
        rows.append(
            {
                "schedule": found["schedule"],
                "microbatches": microbatches,
                "bubble": middle(bubbles),
                "least_bubble": min(bubbles),
                "schedule_bubble": bubble_of(schedule),
                "predicted_bubble": bubble(stages, microbatches),
                "step_s": middle(lengths_s),
                "speed_up": faster(alone_s, lengths_s),
                "predicted_speed_up": stages * (1 - bubble(stages, microbatches)),
                "in_flight": [max(n) for n in zip(*_of(found, "in_flight"), strict=True)],
                "saved_bytes": max(map(max, _of(found, "saved_bytes"))),
            }
        )
    return rows


def times_of(steps: Sequence[Sequence[Interval]], stages: int) -> list[dict[Work, float]]:
    """Return by stage the median seconds of a forward and of a backward pass."""
    works: tuple[Work, Work] = ("forward", "backward")
    return [
        {
            work: middle(
                [i.seconds for s in steps for i in s if (i.stage, i.work) == (stage, work)]
            )
            for work in works
        }
        for stage in range(stages)
    ]


def report(settings: PipelineLab, figures: dict[str, Any]) -> Report:
    """Return the report of :func:`measure`'s figures."""
    rows, stages = figures["rows"], figures["stages"]
    waits = Table(
        f"{stages} stages; the bubble is the share of their time in which they wait",
        ["schedule, m", "(p-1)/(m+p-1)", "of the schedule", "least measured", "measured"],
        [
            [
                _name(row),
                f"{row['predicted_bubble']:.1%}",
                f"{row['schedule_bubble']:.1%}",
                f"{row['least_bubble']:.1%}",
                f"{row['bubble']:.1%}",
            ]
            for row in rows
        ],
    )
    holds = Table(
        "Time and memory of a step",
        ["schedule, m", "step", "speed-up", "at most", "in flight", "activations, fullest"],
        [
            [
                _name(row),
                milliseconds(row["step_s"]),
                f"{row['speed_up']:.2f}",
                f"{row['predicted_speed_up']:.2f}",
                ", ".join(map(str, row["in_flight"])),
                megabytes(row["saved_bytes"]),
            ]
            for row in rows
        ],
    )
    several = [float(m) for m in sorted({row["microbatches"] for row in rows})]
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        "predicted (p-1)/(m+p-1)": (several, [bubble(stages, int(m)) for m in several])
    }
    memory: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for schedule, name in NAMES.items():
        mine = [row for row in rows if row["schedule"] == schedule]
        xs = [float(row["microbatches"]) for row in mine]
        curves[name] = xs, [row["bubble"] for row in mine]
        memory[name] = xs, [row["saved_bytes"] / 1e6 for row in mine]
    return Report(
        title="Pipeline parallelism: bubble and memory of GPipe and 1F1B",
        facts={
            "network": settings.name,
            "micro-batch": f"{settings.rows} examples",
            "timing": f"medians of {settings.rounds} steps, after one that is not counted",
            "backend": "nccl" if figures["on_gpu"] else "gloo, one thread per stage",
            **figures["machine"],
        },
        tables=[waits, holds],
        remarks=_remarks(rows, figures),
        charts=[
            Chart(
                "timeline.png",
                "What each stage does when",
                lambda path: charts.timelines(path, "Timeline of a step", timelines(figures)),
            ),
            Chart(
                "bubble.png",
                "Bubble by number of micro-batches",
                lambda path: charts.lines(path, "Bubble", ("micro-batches m", "share"), curves),
            ),
            Chart(
                "memory.png",
                "Activations of the fullest stage",
                lambda path: charts.lines(
                    path, "Activations held", ("micro-batches m", "MB"), memory
                ),
            ),
        ],
        figures={name: value for name, value in figures.items() if name != "runs"},
    )


def timelines(figures: dict[str, Any]) -> dict[str, list[Interval]]:
    """Return of each schedule the quickest step, with as many micro-batches as can be seen."""
    shown = [row["microbatches"] for row in figures["rows"]]
    wanted = max((m for m in shown if m <= DRAWN), default=min(shown))
    found = {}
    for each in figures["runs"]:
        if each["microbatches"] == wanted:
            steps = [_intervals(step["intervals"]) for step in each["steps"]]
            name = f"{NAMES[each['schedule']]}, {wanted} micro-batches, the quickest step"
            found[name] = min(steps, key=lambda step: max(i.end_s for i in step))
    return found


def _remarks(rows: list[dict[str, Any]], figures: dict[str, Any]) -> list[str]:
    most = max(row["microbatches"] for row in rows)
    kept = {row["schedule"]: row["saved_bytes"] for row in rows if row["microbatches"] == most}
    remarks = [
        f"At {most} micro-batches GPipe holds {kept['gpipe'] / kept['1f1b']:.1f} times the "
        "activations of 1F1B: those of all micro-batches, where stage s of p, counted from 0, "
        "holds p - s in 1F1B. *of the schedule* is the bubble that the stages' own median times "
        "give where nothing is waited for but the schedule. The speed-up is over one rank that "
        "takes the same micro-batches through the whole network.",
    ]
    if not figures["on_gpu"]:
        remarks.append(
            "On a CPU the stages share caches, memory and perhaps cores with each other and with "
            "all else that runs: waiting that the theory does not know counts as bubble here."
        )
    return remarks


def _name(row: dict[str, Any]) -> str:
    return f"{NAMES[row['schedule']]}, {row['microbatches']}"


def _intervals(rows: list[list[float]]) -> list[Interval]:
    works: tuple[Work, Work] = ("forward", "backward")
    return [
        Interval(int(stage), int(microbatch), works[int(work)], start_s, end_s)
        for stage, microbatch, work, start_s, end_s in rows
    ]


def _of(found: dict[str, Any], name: str) -> list[list[int]]:
    return [step[name] for step in found["steps"]]


def main() -> None:
    """Measure on this machine and print the figures."""
    given = entry(__doc__ or "", CPU_RANKS)
    settings = pipeline(given.full, given.ranks)
    given.tell(report(settings, measure(settings)))


if __name__ == "__main__":
    main()
