"""What the commands share that show the newest records of a topic, or those that come."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from rich.console import Console

TABLE_ROWS = 20

FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Show what comes from now on, until Ctrl-C.")
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        "-n",
        min=1,
        help=f"How many at most. [default: the newest {TABLE_ROWS}; all with --json or -f]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def print_lines(
    found: "Sequence[Any]",
    console: "Console",
    cells: "Callable[[Any], list[str]]",
    as_json: bool,
) -> None:
    """Print each record on a line: as JSON, or its cells."""
    import msgspec

    for record in found:
        if as_json:
            typer.echo(msgspec.json.encode(record).decode())
        else:
            console.print("  ".join(cells(record)), soft_wrap=True, markup=False)


def clock(time_ms: int, zone: "ZoneInfo") -> str:
    """Return the time in ``zone``, to the second."""
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(zone)
    return at.strftime("%Y-%m-%d %H:%M:%S")
