"""Server-sent events: sections as they change; a reader that lost its connection goes on.

An event's id is the board's name and the revision of every section, so whoever shows the last one
gets what is new since then, and nobody is kept in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

from serving.dashboard.board import Board

LOOK_EVERY_S = 0.25
ALIVE_EVERY_S = 15.0
RETRY_MS = 2_000
"""After so long a browser that lost its connection asks again."""


async def events(
    board: Board,
    last_id: str | None,
    is_closed: Callable[[], bool],
    look_every_s: float = LOOK_EVERY_S,
    alive_every_s: float = ALIVE_EVERY_S,
) -> AsyncIterator[bytes]:
    """Yield events until ``is_closed``: every section once, or what is new since ``last_id``; then
    what changes, and something now and then so that the connection is seen to be alive."""
    sent = revisions_of(board, last_id)
    yield f"retry: {RETRY_MS}\n\n".encode()
    silent_s = 0.0
    while not is_closed():
        news = False
        for section, revision in board.revisions().items():
            before = sent.get(section, -1)
            if revision == before:
                continue
            # Making a document takes milliseconds: other requests go on meanwhile.
            now, body = await asyncio.to_thread(board.since, section, max(0, before))
            sent[section] = now
            news = True
            yield event(section, event_id(board, sent), body)
        silent_s = 0.0 if news else silent_s + look_every_s
        if silent_s >= alive_every_s:
            silent_s = 0.0
            yield event("ping", event_id(board, sent), b"{}")
        await asyncio.sleep(look_every_s)


def event(name: str, of: str, body: bytes) -> bytes:
    """Return one event; ``body`` is JSON of one line."""
    return b"event: " + name.encode() + b"\nid: " + of.encode() + b"\ndata: " + body + b"\n\n"


def event_id(board: Board, sent: Mapping[str, int]) -> str:
    """Return the id under which a reader can go on."""
    at = ".".join(str(sent.get(section, -1)) for section in board.sections)
    return f"{board.boot}:{at}"


def revisions_of(board: Board, last_id: str | None) -> dict[str, int]:
    """Return section → the revision that a reader has; nothing where the id is another board's."""
    boot, _, at = (last_id or "").partition(":")
    parts = at.split(".")
    if boot != board.boot or len(parts) != len(board.sections):
        return {}
    try:
        return dict(zip(board.sections, map(int, parts), strict=True))
    except ValueError:
        return {}
