"""What stands before every request of the dashboard: by which name it is asked, by whom, and from
which page; and the headers that keep a browser from being used against it."""

from __future__ import annotations

import secrets
import traceback

import structlog

from serving.dashboard.options import DashboardOptions
from serving.dashboard.sessions import Sessions, is_same
from serving.http.gate import REQUEST_ID, App, Exchange, Receive, Scope, Send
from serving.http.problems import ProblemError

CSRF_HEADER = "x-kappa-csrf"
SESSION_FREE = ("/api/session", "/api/login", "/login")
"""Open to everybody who asks by the right name: they say how to log in, and do it."""

SECURITY: list[tuple[bytes, bytes]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        b"connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; "
        b"frame-ancestors 'none'",
    ),
]

_LOG = structlog.get_logger("serving.dashboard.access")


class DashboardGate:
    """An ASGI application around another one: refuses what another site's page may have caused.

    - 421: a ``Host`` that is none of this machine's names (a name that was bound to it elsewhere).
    - 403: a question that a page of another site has the browser ask: it could not read the answer,
      but it could keep the dashboard busy.
    - 403: a request that changes something from another ``Origin``, or from none that is told.
    - 401: an action without a session; off this machine, or by a proxy's name, anything at all.
    - 403: an action without the session's token in the header.
    """

    def __init__(self, app: App, options: DashboardOptions, sessions: Sessions) -> None:
        self._app, self._options, self._sessions = app, options, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(send, secrets.token_hex(16), SECURITY)
        scope[REQUEST_ID] = exchange.request_id
        try:
            self._check(scope)
            await self._app(scope, receive, exchange.send)
        except ProblemError as problem:
            await exchange.refuse(problem)
        except Exception:
            _LOG.error(
                "request failed",
                request_id=exchange.request_id,
                path=scope["path"],
                trace=traceback.format_exc(),
            )
            await exchange.refuse(ProblemError(500, "failed", "the dashboard's log says why"))

    def _check(self, scope: Scope) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1")
                   for name, value in scope["headers"]}  # fmt: skip
        host, path = headers.get("host", ""), scope["path"]
        if not self._options.is_own(name_of(host)):
            raise ProblemError(
                421, "host", f"host {host[:100]!r} is none of the dashboard's names: ask it by "
                f"{self._options.host}, or start it with --name",
            )  # fmt: skip
        foreign = headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
        if foreign and path.startswith("/api/"):
            raise ProblemError(403, "origin", "the request is caused by a page of another site")
        changes = scope["method"] not in ("GET", "HEAD")
        if changes and not _is_same_origin(headers, host):
            raise ProblemError(
                403, "origin", "the request does not come from the dashboard's own page: its "
                "Origin must be the address that is asked",
            )  # fmt: skip
        if path in SESSION_FREE or not path.startswith("/api/"):
            return
        csrf = self._sessions.csrf(headers.get("cookie", ""))
        if csrf is None and (changes or not self._options.open):
            raise ProblemError(
                401, "session", "log in first: open the link that `kappa dashboard --link` prints"
            )
        if changes and (csrf is None or not is_same(headers.get(CSRF_HEADER, ""), csrf)):
            raise ProblemError(
                403, "csrf", f"the header {CSRF_HEADER} must hold what /api/session tells as `csrf`"
            )


def name_of(host: str) -> str:
    """Return the name in a ``Host`` header, without the port.

    >>> name_of("127.0.0.1:8790"), name_of("[::1]:8790"), name_of("localhost")
    ('127.0.0.1', '::1', 'localhost')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_same_origin(headers: dict[str, str], host: str) -> bool:
    own = host.lower()
    return headers.get("origin", "").lower() in (f"http://{own}", f"https://{own}")
