"""``kappa health``: the processes, how far they are, how long their hops take, the brokers."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context

if TYPE_CHECKING:
    from rich.table import Table

    from serving.health.picture import Picture

EVERY_S = 2.0


def health(
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document; with --follow one per line.")
    ] = False,
    follow: Annotated[bool, typer.Option(help="Show it anew every two seconds.")] = False,
) -> None:
    """Show the processes, lag per partition, latency of the hops, and the brokers."""
    import json
    import time
    from contextlib import closing

    from rich.console import Console
    from rich.live import Live

    from infra.roles import feature_stages
    from serving.health.picture import PictureReader

    with open_context(pipeline) as context:
        declared = context.pipeline
        reader = PictureReader(
            context.bootstrap, declared.topics, declared.events.partitions, feature_stages(declared)
        )
        with closing(reader):
            if as_json:
                typer.echo(json.dumps(document_of(reader.look())))
                while follow:
                    time.sleep(EVERY_S)
                    typer.echo(json.dumps(document_of(reader.look())))
                return
            console = Console()
            if not follow:
                console.print(*tables_of(reader.look()), sep="\n")
                return
            from rich.console import Group

            with Live(console=console, auto_refresh=False) as live:
                while True:
                    live.update(Group(*tables_of(reader.look())), refresh=True)
                    time.sleep(EVERY_S)


def document_of(picture: "Picture") -> dict[str, Any]:
    """Return what ``--json`` prints."""
    from dataclasses import asdict

    return asdict(picture)


def tables_of(picture: "Picture") -> "list[Table]":
    """Return the tables: processes, machines, lag, hops, brokers."""
    return [
        _processes(picture), _machines(picture), _lag(picture), _hops(picture), _broker(picture),
    ]  # fmt: skip


def _table(title: str, texts: tuple[str, ...], numbers: tuple[str, ...]) -> "Table":
    from rich.table import Table

    table = Table(*texts, title=title, title_justify="left")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _processes(picture: "Picture") -> "Table":
    numbers = ("heard", "up", "pid", "CPU", "memory")
    table = _table("processes", ("process", "state"), numbers)
    colours = {"alive": "green", "silent": "red", "stopped": "dim"}
    for each in picture.processes:
        table.add_row(
            each.worker, f"[{colours[each.state]}]{each.state}[/]", f"{each.heard_s:,.0f} s ago",
            f"{each.up_s / 3600:,.1f} h", str(each.pid), f"{each.cpu:.0%}",
            _size(each.memory_bytes),
        )  # fmt: skip
    return table


def _machines(picture: "Picture") -> "Table":
    numbers = ("disk free", "received", "sent", "GPU", "GPU memory")
    table = _table("machines", ("machine",), numbers)
    for each in picture.hosts:
        table.add_row(
            each.host or "?", _size(each.disk_free_bytes), _speed(each.network_in_per_s),
            _speed(each.network_out_per_s),
            "" if each.gpu_busy is None else f"{each.gpu_busy:.0%}", _size(each.gpu_memory_bytes),
        )  # fmt: skip
    return table


def _lag(picture: "Picture") -> "Table":
    table = _table("lag", ("reader", "topic"), ("records", "by partition"))
    for each in picture.lag:
        parts = ", ".join(f"{p}: {n:,}" for p, n in sorted(each.by_partition.items()) if n)
        table.add_row(each.role, each.topic, f"{sum(each.by_partition.values()):,}", parts)
    return table


def _hops(picture: "Picture") -> "Table":
    table = _table("hops, of the last minute", ("role", "hop"), ("records/s", "p50", "p99"))
    for each in picture.hops:
        table.add_row(
            each.role, each.hop, f"{each.per_second:,.1f}", _time(each.p50_ms), _time(each.p99_ms)
        )
    return table


def _broker(picture: "Picture") -> "Table":
    numbers = ("brokers", "answer", "partitions", "replicas missing", "offline", "disk free")
    table = _table("brokers", ("state",), numbers)
    broker = picture.broker
    table.add_row(
        "[green]answer[/]" if broker.answers else "[red]do not answer[/]", str(broker.brokers),
        _time(broker.answer_ms), str(broker.partitions), str(broker.under_replicated),
        str(broker.offline), _size(broker.free_bytes),
    )  # fmt: skip
    return table


def _size(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / (1 << 30):,.1f} GB" if size >= 1 << 30 else f"{size / (1 << 20):,.0f} MB"


def _speed(per_second: float | None) -> str:
    return "" if per_second is None else f"{per_second / 1000:,.0f} kB/s"


def _time(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    seconds = milliseconds / 1000
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{milliseconds:,.1f} ms"
