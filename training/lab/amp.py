"""Automatic mixed precision: time and memory of a step in float32, bfloat16 and float16.

``python -m training.lab.amp`` needs torch and numpy alone (and matplotlib for ``--out``).
"""

from dataclasses import dataclass
from typing import Any

from training.lab import charts
from training.lab.entry import entry
from training.lab.hardware import peak_flops
from training.lab.launch import run
from training.lab.ratios import faster, middle
from training.lab.report import Chart, Report, Table, megabytes, milliseconds
from training.lab.workload import Workload, resnet50

TAIL = 10
"""Over how many of the last losses the curves are compared."""


@dataclass(frozen=True)
class Amp:
    """What is measured: a workload, examples per step, steps of the loss curve, and timings."""

    workload: Workload
    name: str
    batch: int
    curve: int
    steps: int
    rounds: int


def amp(full: bool) -> Amp:
    """Return the exercise in full, for a GPU, or in the size of a CPU."""
    if full:
        return Amp(resnet50(), "ResNet-50, 224 x 224, 1000 classes", 128, 60, 10, 5)
    return Amp(
        resnet50(16, 64, 10),
        "ResNet-50 of width 16 (of 64) on images of 64 x 64 (of 224 x 224), 10 classes: "
        "a small size, for CPUs",
        16, 40, 3, 5,
    )  # fmt: skip


def measure(settings: Amp) -> dict[str, Any]:
    """Return the figures of each precision; raises TrainingError where the run fails."""
    from training.lab.counting import count

    counted = count(settings.workload)
    measured = run(
        "training.lab.precisions",
        {
            "workload": settings.workload.to_json(),
            "batch": settings.batch,
            "curve": settings.curve,
            "steps": settings.steps,
            "rounds": settings.rounds,
        },
        1,
    )
    return {**measured, "rows": rows_of(settings, counted.flops, measured)}


def rows_of(settings: Amp, flops: float, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Return per precision that runs here what it takes, and how it compares with float32."""
    found = {name: p for name, p in measured["precisions"].items() if "failed" not in p}
    plain = found["float32"]
    rows = []
    for name, precision in found.items():
        step_s = middle(precision["seconds"])
        peak = peak_flops(measured["machine"]["device"], name) if measured["on_gpu"] else None
        memory = precision["peak_bytes"] or precision["kept_bytes"]
        rows.append(
            {
                "precision": name,
                "step_s": step_s,
                "examples_per_s": settings.batch / step_s,
                "faster": faster(plain["seconds"], precision["seconds"]),
                "memory_bytes": memory,
                "memory_share": memory / (plain["peak_bytes"] or plain["kept_bytes"]),
                "last_loss": middle(precision["losses"][-TAIL:]),
                "loss_gap": max(
                    abs(one - other)
                    for one, other in zip(
                        _smooth(precision["losses"]),
                        _smooth(plain["losses"][: len(precision["losses"])]),
                        strict=True,
                    )
                ),
                "mfu": settings.batch * flops / step_s / peak if peak else None,
            }
        )
    return rows


def report(settings: Amp, figures: dict[str, Any]) -> Report:
    """Return the report of :func:`measure`'s figures."""
    rows, on_gpu = figures["rows"], figures["on_gpu"]
    names = {
        "float32": "FP32", "tf32": "TF32", "bfloat16": "AMP, bf16",
        "float16": "AMP, fp16 + GradScaler",
    }  # fmt: skip
    memory = "peak memory" if on_gpu else "kept for backward"
    table = Table(
        f"A step of {settings.batch} examples",
        [
            "precision", "step", "examples/s", "times FP32", memory, "of FP32", "last loss",
            "largest gap", *(["MFU"] if rows[0]["mfu"] else []),
        ],
        [
            [
                names[row["precision"]],
                milliseconds(row["step_s"]),
                f"{row['examples_per_s']:,.0f}",
                f"{row['faster']:.2f}",
                megabytes(row["memory_bytes"]),
                f"{row['memory_share']:.0%}",
                f"{row['last_loss']:.3f}",
                f"{row['loss_gap']:.3f}",
                *([f"{row['mfu']:.0%}"] if row["mfu"] else []),
            ]
            for row in rows
        ],
    )  # fmt: skip
    losses = {
        names[name]: (list(map(float, range(len(p["losses"])))), p["losses"])
        for name, p in figures["precisions"].items()
        if "failed" not in p
    }
    labels = [names[row["precision"]] for row in rows]
    places = list(map(float, range(len(rows))))
    ratios = {
        "time, FP32 = 1": (places, [1 / row["faster"] for row in rows]),
        f"{memory}, FP32 = 1": (places, [row["memory_share"] for row in rows]),
    }
    return Report(
        title="Mixed precision: time, memory and loss of a step",
        facts={
            "network": settings.name,
            "parameters": f"{figures['parameters']:,}",
            "timing": f"medians of {settings.rounds} rounds of {settings.steps} steps, in turns",
            **figures["machine"],
        },
        tables=[table],
        remarks=_remarks(rows, figures),
        charts=[
            Chart(
                "loss.png",
                "Loss by step",
                lambda path: charts.lines(path, "Loss in each precision", ("step", "loss"), losses),
            ),
            Chart(
                "ratio.png",
                "Time and memory beside FP32",
                lambda path: charts.bars(path, "Time and memory", ("beside FP32", labels), ratios),
            ),
        ],
        figures=figures,
    )


def _remarks(rows: list[dict[str, Any]], figures: dict[str, Any]) -> list[str]:
    by_name = {row["precision"]: row for row in rows}
    remarks = []
    if "bfloat16" in by_name:
        row = by_name["bfloat16"]
        goal = " (goal on a GPU: 2)" if figures["on_gpu"] else ""
        remarks.append(
            f"bf16 is {row['faster']:.2f} times as quick as FP32{goal}, and takes "
            f"{row['memory_share']:.0%} of its memory."
        )
    remarks.append(
        "The largest gap is that of a loss, mean of ten steps, to FP32's at the same steps."
    )
    remarks.append(
        "Weights, their gradients and the optimiser stay in float32; FP32 is without "
        "TensorFloat-32."
        if figures["on_gpu"]
        else "Weights, their gradients and the optimiser stay in float32. A CPU gains time only "
        "where it multiplies bf16 in hardware; memory is what autograd keeps of a forward pass, "
        "copies of weights in the lower precision included."
    )
    remarks += [
        f"{name} has no quick kernels on a CPU: only {len(precision['losses'])} steps of it."
        for name, precision in figures["precisions"].items()
        if len(precision.get("losses", ())) < len(figures["precisions"]["float32"]["losses"])
        and "failed" not in precision
    ]
    remarks += [
        f"{name} does not run on this device: {precision['failed']}"
        for name, precision in figures["precisions"].items()
        if "failed" in precision
    ]
    return remarks


def _smooth(losses: list[float]) -> list[float]:
    """Return means over ten steps: single batches differ by more than precisions do."""
    return [
        sum(losses[i : i + TAIL]) / len(losses[i : i + TAIL]) for i in range(0, len(losses), TAIL)
    ]


def main() -> None:
    """Measure on this machine and print the figures."""
    given = entry(__doc__ or "")
    settings = amp(given.full)
    given.tell(report(settings, measure(settings)))


if __name__ == "__main__":
    main()
