"""``kappa cutover``: inference and training go on from another definition."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption, open_context
from kappa.cli.rebuild import version_of

if TYPE_CHECKING:
    from streams.cutover import Cutovers
    from streams.wire import DefinitionChanged

HINT_AFTER_S = 10.0


def cutover(
    version: Annotated[str, typer.Argument(help="The definition to answer from: v1, v2, ...")],
    pipeline: PipelineOption = DEFAULT_PIPELINE,
    at_offset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARTITION:OFFSET",
            help="Not before this offset of the events topic; once per partition. Default: the "
            "next event of each partition.",
        ),
    ] = None,
    model: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The model that answers first. Default: the one that was live on the definition "
            "before, else its newest.",
        ),
    ] = None,
    prior: Annotated[
        bool, typer.Option("--prior", help="Without a model the pipeline's stated prior answers.")
    ] = False,
    max_lag: Annotated[
        int, typer.Option(min=0, help="How many events the definition's features may be behind.")
    ] = 1_000,
    reason: Annotated[
        str, typer.Option(help="Why, for the control log.")
    ] = "ordered by an operator",
    wait: Annotated[bool, typer.Option(help="Wait until every partition has switched.")] = True,
    timeout: Annotated[
        float, typer.Option(min=0, help="How many seconds to wait; the order stands after that.")
    ] = 120.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Switch to another definition, or back; each event is answered once, by one of them."""
    from serving.ordering import Orders, Wish

    wish = Wish(version_of(version), reason, model, prior, stated(at_offset or []), max_lag)
    with open_context(pipeline) as context:
        orders = Orders(context.bootstrap, context.pipeline)
        try:
            order = orders.give(wish)
            switched = wait and _wait(orders, order, timeout)
            cutovers = orders.rollout.cutovers
        finally:
            orders.close()
    if as_json:
        typer.echo(json.dumps(_result(order, cutovers)))
    else:
        _print(order, cutovers)
    if wait and not switched:
        raise typer.Exit(1)


def stated(texts: list[str]) -> dict[int, int]:
    """Return partition → offset; raises ConfigurationError where a text is not ``0:123``."""
    from streams.errors import ConfigurationError

    at: dict[int, int] = {}
    for text in texts:
        partition, _, offset = text.partition(":")
        if not partition.isdecimal() or not offset.isdecimal():
            raise ConfigurationError(
                f"--at-offset {text}: PARTITION:OFFSET was expected, such as 0:1200"
            )
        at[int(partition)] = int(offset)
    return at


def _wait(orders: Any, order: "DefinitionChanged", timeout_s: float) -> bool:
    import time

    from rich.console import Console

    console, began_s = Console(stderr=True), time.monotonic()
    with console.status("") as status:

        def show(cutovers: "Cutovers") -> None:
            left = cutovers.undecided()
            text = f"{order.partitions - len(left)} of {order.partitions} partitions have switched"
            if time.monotonic() - began_s > HINT_AFTER_S:
                text += f"; waiting for {left}: is `kappa up` running, with v{order.definition}?"
            status.update(text)

        switched: bool = orders.wait(show, timeout_s)
    if not switched:
        console.print(
            f"partitions {orders.rollout.cutovers.undecided()} have not switched in "
            f"{timeout_s:.0f} s; the order stands: they will as soon as inference workers run that "
            f"know definition v{order.definition}",
            highlight=False,
        )
    return switched


def _result(order: "DefinitionChanged", cutovers: "Cutovers") -> dict[str, object]:
    return {
        "definition": order.definition,
        "before": order.before,
        "model_version": order.model_version,
        "change": order.change,
        "since": {str(p): cutovers.since(order, p) for p in range(order.partitions)},
    }


def _print(order: "DefinitionChanged", cutovers: "Cutovers") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Cut-over from v{order.before} to v{order.definition}")
    table.add_column("partition", justify="right")
    table.add_column(f"v{order.definition} from events offset", justify="right")
    for partition in range(order.partitions):
        since = cutovers.since(order, partition)
        table.add_row(str(partition), "not yet" if since is None else f"{since:,}")
    console = Console()
    console.print(table)
    answering = f"model {order.model_version}" if order.model_version else "the prior"
    console.print(f"{answering} answers; back by kappa cutover v{order.before}", highlight=False)
