"""Stretches of the log as the command line names them: by event time or by offset."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from kappa.cli.context import Context

FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="TIME|OFFSET",
        help="Begin at this event time (UTC, 2026-03-01 or 2026-03-01T12:00:00) or offset.",
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="TIME|OFFSET", help="End there, itself left out."),
]


def moment_or_offset(text: str | None, option: str) -> datetime | int | None:
    """Return what ``--from`` or ``--to`` names; raises ConfigurationError where it is neither."""
    from streams.errors import ConfigurationError

    if text is None:
        return None
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{option} {text}: neither an offset nor a time such as 2026-03-01T12:00:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def event_ranges(
    context: Context,
    since: datetime | int | None,
    until: datetime | int | None,
    only: int | None = None,
) -> dict[int, tuple[int, int]]:
    """Return partition → [first, end) of the events topic between two times or offsets.

    A time is looked up in the topic's time index: the range begins at the first record whose
    event time is not before it.

    Raises:
        ConfigurationError: there is no partition ``only``.
    """
    from streams.errors import ConfigurationError
    from streams.replay import offset_bounds, offsets_at

    topic, n = context.pipeline.topics.events, context.pipeline.events.partitions
    if only is not None and only >= n:
        raise ConfigurationError(f"partition {only}: {topic} has partitions 0 to {n - 1}")
    bounds = offset_bounds(context.bootstrap, topic, n)

    def offsets(place: datetime | int | None, otherwise: dict[int, int]) -> dict[int, int]:
        if place is None:
            return otherwise
        if isinstance(place, int):
            return dict.fromkeys(bounds, place)
        at = place if place.tzinfo else place.replace(tzinfo=UTC)
        return offsets_at(context.bootstrap, topic, n, int(at.timestamp() * 1000))

    starts = offsets(since, {p: first for p, (first, _) in bounds.items()})
    ends = offsets(until, {p: end for p, (_, end) in bounds.items()})
    chosen = {}
    for p, (first, end) in bounds.items():
        start = max(first, starts[p])
        if only is None or p == only:
            chosen[p] = (start, max(start, min(end, ends[p])))
    return chosen
