"""``kappa plan training``: what a training would take on how many GPUs, before there are any."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption

if TYPE_CHECKING:
    from training.communication import Machine, NetworkCost
    from training.lab.workload import Workload
    from training.layouts import Layout

MEASURED_RANKS = 2
_EXAMPLES = {"resnet50": 256, "transformer": 8}


def training(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    network: Annotated[
        str, typer.Option(help="pipeline (its own), resnet50, or transformer (24 layers of 1024).")
    ] = "pipeline",
    ranks: Annotated[str, typer.Option(help="Numbers of ranks, separated by commas.")] = "1,2,4,8",
    bandwidth: Annotated[
        str,
        typer.Option(help='Of a link in one direction: "25GB/s", "100Gb/s", nvlink, pcie, ...'),
    ] = "nvlink",
    latency: Annotated[float, typer.Option(min=0, help="Of a message, in microseconds.")] = 5.0,
    flops: Annotated[
        str, typer.Option(help='Peak operations per second: "312TFLOPS", or a GPU: H100, A100, ...')
    ] = "H100",
    share: Annotated[
        float, typer.Option(min=0.001, max=1.0, help="Share of the peak that is attained.")
    ] = 0.4,
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16 (autocast: the state stays float32).")
    ] = "bfloat16",
    gradient_bytes: Annotated[
        int, typer.Option(min=1, max=8, help="Of a gradient on the link.")
    ] = 4,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Examples per rank and step. Default: the model's.")
    ] = None,
    codes: Annotated[
        int, typer.Option(min=1, help="Values that a category feature has, for embeddings.")
    ] = 1000,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Measure this machine (all-reduce, products of matrices, the real step on 1 and "
            "2 ranks), and print what was measured beside what is predicted.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan as one JSON object.")
    ] = False,
) -> None:
    """Print communication over computation, speed-up and memory per GPU of each parallelism."""
    from training.communication import Sizes, batch_for, lesson_ratio
    from training.lab.counting import cost_of
    from training.layouts import layouts

    workload, model_batch = _workload(pipeline, network, codes)
    batch = batch or model_batch
    cost = _in_precision(cost_of(workload), precision)
    counts = _counts(ranks)
    found = _measured(workload, network, batch) if measure else None
    if found is None:
        machine = _machine(bandwidth, flops, precision, share, latency)
    else:
        machine = _seen(found, cost, batch)
    sizes = Sizes(gradient=gradient_bytes)
    rows = [row for n in counts for row in layouts(cost, machine, batch, n, sizes)]
    told: dict[str, Any] = {
        "network": network if network != "pipeline" else pipeline,
        "cost": asdict(cost),
        "machine": asdict(machine),
        "batch": batch,
        "precision": precision,
        "ratio": lesson_ratio(cost, machine, batch, gradient_bytes),
        "batch_for_a_tenth": batch_for(cost, machine, 0.1, gradient_bytes),
        "layouts": [{**asdict(row), "memory_bytes": row.memory.total} for row in rows],
        "measured": found,
    }
    if as_json:
        typer.echo(json.dumps(told))
        return
    _print(told, rows)


def _workload(pipeline: str, network: str, codes: int) -> "tuple[Workload, int]":
    """Return the network, and how many examples a step has by default."""
    from streams.errors import ConfigurationError
    from training.lab.pipeline import FULL_SHAPE
    from training.lab.workload import network as network_of
    from training.lab.workload import resnet50

    if network == "resnet50":
        return resnet50(), _EXAMPLES[network]
    if network == "transformer":
        return network_of(FULL_SHAPE), _EXAMPLES[network]
    if network != "pipeline":
        raise ConfigurationError(
            f"--network {network}: pipeline (the pipeline's own), resnet50 or transformer"
        )
    from kappa.loading import load_pipeline
    from training.dataset.encoding import INPUTS_PER_NUMERIC
    from training.networks.shape import Shape

    declared = load_pipeline(pipeline)
    features, model = declared.features, declared.model
    shape = Shape(
        INPUTS_PER_NUMERIC * len(features.names("numeric")),
        (codes + 1,) * len(features.names("category")),
        model.network,
        model.task.outputs,
    )
    return network_of(shape), model.batch


def _in_precision(cost: "NetworkCost", precision: str) -> "NetworkCost":
    """Return the cost with activations of two bytes where autocast makes them such."""
    from dataclasses import replace

    from streams.errors import ConfigurationError

    if precision == "float32":
        return cost
    if precision != "bfloat16":
        raise ConfigurationError(f"--precision {precision}: float32 or bfloat16")
    return replace(
        cost,
        activation_bytes=cost.activation_bytes / 2,
        block_bytes=cost.block_bytes / 2,
        routed_bytes=cost.routed_bytes / 2,
    )


def _counts(text: str) -> list[int]:
    from streams.errors import ConfigurationError

    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise ConfigurationError(f"--ranks {text}: whole numbers from 1 on, as in 1,2,4,8")
    return counts


def _machine(
    bandwidth: str, flops: str, precision: str, share: float, latency_us: float
) -> "Machine":
    from training.communication import Machine, operations
    from training.communication import bandwidth as bytes_per_s
    from training.lab.hardware import peak_flops

    peak = peak_flops(flops, precision) or operations(flops)
    return Machine(bytes_per_s(bandwidth), share * peak, latency_us * 1e-6)


def _measured(workload: "Workload", network: str, batch: int) -> dict[str, Any]:
    """Return what :mod:`training.lab.ddp` measures of the pipeline's own network."""
    from rich.console import Console

    from streams.errors import ConfigurationError
    from training.lab.ddp import Ddp, measure

    if network != "pipeline":
        raise ConfigurationError(
            "--measure takes the pipeline's own network; kappa lab ddp measures ResNet-50 and "
            "kappa lab pipeline the Transformer"
        )
    settings = Ddp(workload, network, MEASURED_RANKS, batch, 10, 7)
    with Console(stderr=True).status("measuring"):
        return measure(settings)


def _seen(found: dict[str, Any], cost: "NetworkCost", batch: int) -> "Machine":
    """Return the machine as it was seen to be: one rank's step, and the all-reduce."""
    from training.communication import Machine

    alone, together = found["rows"][0], found["rows"][-1]
    return Machine(
        together["bandwidth"], batch * cost.flops / alone["step_s"], together["latency_s"]
    )


def _print(told: dict[str, Any], rows: "list[Layout]") -> None:
    from rich.console import Console
    from rich.table import Table

    from training.lab.report import megabytes, milliseconds

    console, cost, machine = Console(), told["cost"], told["machine"]
    console.print(
        f"{told['network']}: {cost['parameters']:,} parameters, "
        f"{cost['flops'] / 1e9:,.4g} GFLOP and {megabytes(cost['activation_bytes'])} of "
        f"activations per example ({told['precision']}); {told['batch']:,} examples per rank",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"{machine['bandwidth'] / 1e9:,.3g} GB/s, {machine['latency_s'] * 1e6:,.3g} µs, "
        f"{machine['flops'] / 1e12:,.3g} TFLOPS attained: communication takes "
        f"{told['ratio']:.3g} of computation; a tenth from {told['batch_for_a_tenth']:,} examples "
        "per rank on",
        highlight=False,
        soft_wrap=True,
    )
    times = Table(title="Predicted; speed-up in examples per second over one rank")
    for name in (
        "ranks", "kind", "step", "moving", "speed-up", "overlapped", "N/(1+rho)", "bubble"
    ):  # fmt: skip
        times.add_column(name, justify="left" if name == "kind" else "right")
    memories = Table(title="Memory of the fullest GPU")
    for name in (
        "ranks", "kind", "parameters", "gradients", "optimiser", "activations", "together"
    ):  # fmt: skip
        memories.add_column(name, justify="left" if name == "kind" else "right")
    for row in rows:
        times.add_row(
            str(row.ranks), row.kind, milliseconds(row.step_s), milliseconds(row.communication_s),
            f"{row.speed_up:.2f}", f"{row.bound:.2f}",
            "" if row.lesson is None else f"{row.lesson:.2f}",
            "" if row.idle is None else f"{row.idle:.0%}",
        )  # fmt: skip
        memory = row.memory
        memories.add_row(
            str(row.ranks), row.kind, megabytes(memory.parameters), megabytes(memory.gradients),
            megabytes(memory.optimizer), megabytes(memory.activations), megabytes(memory.total),
        )  # fmt: skip
    console.print(times)
    console.print(memories)
    if told["measured"] is not None:
        _print_measured(console, told["measured"])


def _print_measured(console: Any, found: dict[str, Any]) -> None:
    from rich.table import Table

    alone, last = found["rows"][0], found["rows"][-1]
    matmul_s = sorted(found["seconds"]["1"]["matmul"])[len(found["seconds"]["1"]["matmul"]) // 2]
    ranks = last["ranks"]
    table = Table(title=f"{found['machine']['device']}, {ranks} ranks: predicted and measured")
    for name in ("figure", "predicted", "measured"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for name, predicted, measured in (
        ("speed-up, N/(1+rho)", last["predicted"], last["speed_up"]),
        ("speed-up, ring", last["predicted_ring"], last["speed_up"]),
        ("speed-up, overlapped", last["predicted_bound"], last["speed_up"]),
        ("speed-up, of shared cores", last["predicted_shared"], last["speed_up"]),
        ("without all-reduce", float(ranks), last["without_all_reduce"]),
        ("4 batches per all-reduce", float(ranks), last["accumulated"]),
    ):
        table.add_row(name, f"{predicted:.2f}", f"{measured:.2f}")
    console.print(table)
    console.print(
        f"one rank: {alone['flops_per_s'] / 1e9:,.3g} GFLOPS in the step, "
        f"{found['matmul_flops'] / matmul_s / 1e9:,.3g} in products of matrices; all-reduce "
        f"{last['bandwidth'] / 1e9:,.3g} GB/s, {last['latency_s'] * 1e6:,.3g} µs",
        highlight=False,
        soft_wrap=True,
    )
