"""What stands before every request: who asks, how much, how long; and what is told of it."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import structlog

from serving.http.metrics import Metrics
from serving.http.options import ServeOptions, is_loopback
from serving.http.problems import MEDIA_TYPE, RETRY, ProblemError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID = "kappa.request_id"
"""Where the scope holds the request's id."""

PROBES = ("/healthz", "/readyz")
"""Open to everybody, since they are asked by machines that hold no token."""

ROUTES = ("/v1/predict", "/v1/models", "/openapi.json", "/metrics", *PROBES)
FEATURES = "/v1/features/"

_SECURITY: list[tuple[bytes, bytes]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
]

_LOG = structlog.get_logger("serving.http.access")


class Gate:
    """An ASGI application around another one.

    It gives each request an id, refuses what may not be asked (401, 413, 421, 429), ends what takes
    too long (503), adds the headers of security, counts, and writes one line per request, which
    holds neither body nor query nor entity.
    """

    def __init__(self, app: App, options: ServeOptions, metrics: Metrics) -> None:
        self._app, self._limits, self._metrics = app, options.limits, metrics
        self._token = None if options.token is None else f"{options.token}".encode()
        # Without a token a page in the user's browser must not get here by a name of its own.
        self._local_only = options.token is None and is_loopback(options.host)
        self._access_log = options.access_log
        self._in_flight = 0
        self._counters: dict[tuple[str, int], Any] = {}
        self._seconds: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        exchange = Exchange(send, secrets.token_hex(16))
        scope[REQUEST_ID] = exchange.request_id
        route = route_of(scope["path"])
        limited = route.startswith("/v1/")
        self._in_flight += limited
        self._metrics.in_flight.set(self._in_flight)
        try:
            self._check(scope, route)
            if limited:
                async with asyncio.timeout(self._limits.timeout_s):
                    await self._app(scope, receive, exchange.send)
            else:
                await self._app(scope, receive, exchange.send)
        except ProblemError as problem:
            await exchange.refuse(problem)
        except TimeoutError:
            await exchange.refuse(
                ProblemError(
                    503,
                    "timeout",
                    f"no answer within {self._limits.timeout_s:g} s: the body came too slowly, or "
                    "too much is asked at once; ask again",
                    (),
                    RETRY,
                )
            )
        except Exception:
            # The trace as text: a log must not show the values of variables, a token among them.
            _LOG.error(
                "request failed",
                request_id=exchange.request_id,
                route=route,
                trace=traceback.format_exc(),
            )
            await exchange.refuse(ProblemError(500, "failed", "the service's log says why"))
        finally:
            self._in_flight -= limited
            self._tell(scope, route, exchange, time.perf_counter() - begun)

    def _check(self, scope: Scope, route: str) -> None:
        headers = dict(scope["headers"])
        if self._local_only:
            host = headers.get(b"host", b"").decode("latin-1")
            name = host.rpartition(":")[0] if host.count(":") == 1 else host
            if not is_loopback(name.partition("]")[0].strip("[]")):
                raise ProblemError(
                    421, "host", f"host {host[:100]!r} is not this machine: ask 127.0.0.1"
                )
        if self._token is not None and route not in PROBES:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            matches = hmac.compare_digest(given.strip(), self._token)
            if scheme.lower() != b"bearer" or not matches:
                raise ProblemError(
                    401, "token", "a token is wanted, as `Authorization: Bearer TOKEN`", (),
                    {"www-authenticate": "Bearer"},
                )  # fmt: skip
        if not route.startswith("/v1/"):
            return
        if self._in_flight > self._limits.concurrent:
            raise ProblemError(
                429,
                "too-many",
                f"{self._limits.concurrent} requests are under way, as many as are taken at once: "
                "ask again",
                (),
                RETRY,
            )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limits.body_bytes:
            raise too_large(self._limits.body_bytes)

    def _tell(self, scope: Scope, route: str, exchange: Exchange, seconds: float) -> None:
        status = exchange.status or 500
        counter = self._counters.get((route, status))
        if counter is None:
            counter = self._counters[route, status] = self._metrics.requests.labels(route, status)
        counter.inc()
        histogram = self._seconds.get(route)
        if histogram is None:
            histogram = self._seconds[route] = self._metrics.seconds.labels(route)
        histogram.observe(seconds)
        self._metrics.in_flight.set(self._in_flight)
        if self._access_log:
            client = scope.get("client")
            _LOG.info(
                "request",
                request_id=exchange.request_id,
                method=scope["method"],
                route=route,
                status=status,
                ms=round(seconds * 1000, 2),
                client=client[0] if client else None,
            )


class Exchange:
    """The answer to one request: its status, and the headers that every answer has."""

    def __init__(
        self, send: Send, request_id: str, security: Sequence[tuple[bytes, bytes]] = _SECURITY
    ) -> None:
        self._send, self.request_id, self._security = send, request_id, security
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], *self._security]
            message["headers"] = [*headers, (b"x-request-id", self.request_id.encode())]
        await self._send(message)

    async def refuse(self, problem: ProblemError) -> None:
        """Answer with a problem, if nothing has been answered yet."""
        if self.status is not None:
            return
        body = problem.body(self.request_id)
        headers = {
            "content-type": MEDIA_TYPE, "content-length": str(len(body)), **problem.headers,
        }  # fmt: skip
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})


def route_of(path: str) -> str:
    """Return the name under which a path is counted; few, whatever is asked."""
    if path in ROUTES:
        return path
    if path.startswith(FEATURES):
        return "/v1/features/{entity}"
    return "/v1/other" if path.startswith("/v1/") else "other"


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return a request's body; raises ProblemError (413) once it is larger than ``limit``."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit:
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False) and size <= limit:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    if size > limit:
        raise too_large(limit)
    return b"".join(parts)


def too_large(limit: int) -> ProblemError:
    """Return the problem of a body that is larger than ``limit`` bytes."""
    return ProblemError(
        413,
        "too-large",
        f"the body has more than {limit:,} bytes: send fewer rows at once",
        (),
        {"connection": "close"},
    )
