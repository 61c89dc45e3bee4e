"""The dashboard as an ASGI application: FastAPI's routes behind the gate. Imports FastAPI."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse

from serving.dashboard.acting import Acting, problem_of
from serving.dashboard.board import Board
from serving.dashboard.documents.actions import Session
from serving.dashboard.documents.figures import DriftCell
from serving.dashboard.documents.rollout import ExperimentFindings
from serving.dashboard.documents.sections import SECTIONS
from serving.dashboard.documents.topics import Records
from serving.dashboard.gate import DashboardGate
from serving.dashboard.kept import Key
from serving.dashboard.options import DashboardOptions
from serving.dashboard.records import Wanted
from serving.dashboard.sessions import Sessions
from serving.dashboard.streaming import events
from serving.http.app import JSON, add_problems
from serving.http.gate import read_body
from serving.http.problems import RETRY, ProblemError
from streams.errors import KappaError

STATIC = Path(__file__).parent / "static"
BODY_BYTES = 1 << 20
LOGIN_BYTES = 4_096
"""Whoever is not let in yet makes the process hold no more."""
STREAMS = 32
"""Pages that follow at once."""
QUESTIONS = 2
"""Reads of the log at once: each takes a thread for seconds, and the pages need some too."""

Number = Annotated[int | None, Query(ge=0, le=2**63 - 1)]

_encode = msgspec.json.Encoder().encode


class Login(msgspec.Struct, frozen=True):
    """``POST /api/login``."""

    token: str


@dataclass
class Parts:
    """What the application is made of; the functions are called in threads.

    Args:
        pipeline: its name.
        board: the sections.
        sessions: who may act.
        options: where it listens.
        acting: the actions.
        cell: gives a cell of the heat map.
        browse: gives records.
        findings: gives what an experiment shows.
        used: is called when a one-time link was used.
        closed: whether the process is to end: streams end then.
    """

    pipeline: str
    board: Board
    sessions: Sessions
    options: DashboardOptions
    acting: Acting
    cell: Callable[[str, Key], DriftCell | None] = lambda _, __: None
    browse: Callable[[Wanted], Records] | None = None
    findings: Callable[[str], ExperimentFindings] | None = None
    used: Callable[[], None] = lambda: None
    closed: Callable[[], bool] = lambda: False
    streams: set[object] = field(default_factory=set)
    questions: set[object] = field(default_factory=set)


def make_app(parts: Parts) -> DashboardGate:
    """Return the application."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    add_problems(app, "docs/dashboard.md")
    _add_page(app, static_files(STATIC))
    _add_access(app, parts)
    _add_stream(app, parts)
    _add_questions(app, parts)
    _add_sections(app, parts)
    return DashboardGate(app, parts.options, parts.sessions)


def static_files(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Return the page's files: path below ``folder`` → (content, media type)."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            media = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            if path.suffix == ".js":
                media = "text/javascript"
            if media.startswith("text/"):
                media += "; charset=utf-8"
            found[path.relative_to(folder).as_posix()] = path.read_bytes(), media
    return found


def _add_page(app: FastAPI, files: Mapping[str, tuple[bytes, str]]) -> None:
    @app.get("/")
    async def page() -> Response:
        return _file(files, "index.html")

    @app.get("/static/{path:path}")
    async def static(path: str) -> Response:
        return _file(files, path)


def _file(files: Mapping[str, tuple[bytes, str]], path: str) -> Response:
    if path not in files:
        raise ProblemError(404, "not-found", "there is no such file")
    content, media = files[path]
    return Response(content, media_type=media)


def _add_access(app: FastAPI, parts: Parts) -> None:
    """Add logging in, and acting."""
    sessions, acting = parts.sessions, parts.acting

    def open_session(token: str, request: Request) -> str:
        found = sessions.log_in(token)
        if found is None:
            raise ProblemError(
                401, "login", "the link opens nothing (any more): each does once; "
                "`kappa dashboard --link` prints the current one",
            )  # fmt: skip
        session, by_link = found
        if by_link:
            parts.used()
        # A proxy on this machine tells by x-forwarded-proto that the browser came over TLS.
        return sessions.set_cookie(session, request.url.scheme == "https")

    @app.get("/login")
    async def login(
        request: Request, token: Annotated[str, Query(max_length=500)] = ""
    ) -> Response:
        return Response(None, 303, {"location": "/", "set-cookie": open_session(token, request)})

    @app.post("/api/login")
    async def login_by_body(request: Request) -> Response:
        body = await read_body(request.receive, LOGIN_BYTES)
        try:
            token = msgspec.json.decode(body, type=Login).token
        except msgspec.MsgspecError as error:
            raise ProblemError(
                422, "login", f'the body must be {{"token": ...}}: {error}'
            ) from error
        cookie = open_session(token, request)
        return Response(
            _encode(_session(parts, cookie.partition(";")[0])), 200, {"set-cookie": cookie}, JSON
        )

    @app.get("/api/session")
    async def session(request: Request) -> Response:
        return _json(_session(parts, request.headers.get("cookie", "")))

    @app.post("/api/actions/{name}")
    async def act(request: Request, name: str) -> Response:
        body = await read_body(request.receive, BODY_BYTES)
        return _json(await asyncio.to_thread(acting.do, name, body))


def _session(parts: Parts, cookies: str) -> Session:
    csrf = parts.sessions.csrf(cookies)
    how = "open the one-time link that `kappa dashboard --link` prints in a terminal"
    return Session(parts.pipeline, csrf is not None, csrf, how, parts.acting.names)


def _add_stream(app: FastAPI, parts: Parts) -> None:
    @app.get("/api/stream")
    async def stream(request: Request) -> Response:
        if len(parts.streams) >= STREAMS:
            raise ProblemError(
                429, "too-many", f"{STREAMS} pages follow already: close one", (), RETRY
            )
        last = request.headers.get("last-event-id")
        return StreamingResponse(_counted(parts, last), media_type="text/event-stream")


async def _counted(parts: Parts, last_id: str | None) -> AsyncIterator[bytes]:
    this = object()
    parts.streams.add(this)
    try:
        async for event in events(parts.board, last_id, parts.closed):
            yield event
    finally:
        parts.streams.discard(this)


def _add_questions(app: FastAPI, parts: Parts) -> None:
    """Add what is read when it is asked for."""

    @app.get("/api/drift/cell")
    async def cell(
        feature: Annotated[str, Query(max_length=1000)],
        start_ms: Annotated[int, Query()],
        end_ms: Annotated[int, Query()],
        version: Annotated[int, Query(ge=0)],
    ) -> Response:
        key = end_ms, start_ms, version
        found = await asyncio.to_thread(parts.cell, feature, key)
        if found is None:
            raise ProblemError(
                404, "cell", f"{feature} was not judged in this window, or too long ago"
            )
        return _json(found)

    @app.get("/api/records")
    async def records(
        topic: Annotated[str, Query(max_length=300)],
        partition: Number = None,
        offset: Number = None,
        time_ms: Number = None,
        newest: bool = False,
        filter: Annotated[str, Query(max_length=200)] = "",
        limit: int = 50,
    ) -> Response:
        if parts.browse is None:
            raise ProblemError(404, "records", "there are no records here")
        try:
            wanted = Wanted(topic, partition, offset, time_ms, newest, filter, limit)
            with _asked(parts):
                return _json(await asyncio.to_thread(parts.browse, wanted))
        except KappaError as error:
            raise problem_of(error) from error

    @app.get("/api/experiments/findings")
    async def findings(name: Annotated[str, Query(max_length=300)]) -> Response:
        if parts.findings is None:
            raise ProblemError(404, "experiment", f"there is no experiment {name}")
        try:
            with _asked(parts):
                return _json(await asyncio.to_thread(parts.findings, name))
        except KappaError as error:
            raise problem_of(error) from error


@contextmanager
def _asked(parts: Parts) -> Iterator[None]:
    if len(parts.questions) >= QUESTIONS:
        raise ProblemError(
            429, "too-many", f"{QUESTIONS} reads of the log go on already: ask again", (), RETRY
        )
    this = object()
    parts.questions.add(this)
    try:
        yield
    finally:
        parts.questions.discard(this)


def _add_sections(app: FastAPI, parts: Parts) -> None:
    @app.get("/api/{section}")
    async def section(section: str) -> Response:
        if section not in parts.board.sections:
            known = ", ".join(SECTIONS)
            raise ProblemError(
                404, "section", f"there is no section {section[:50]!r}; there are: {known}"
            )
        return Response(await asyncio.to_thread(parts.board.whole, section), media_type=JSON)


def _json(document: Any) -> Response:
    return Response(_encode(document), media_type=JSON)
