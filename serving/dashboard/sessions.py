"""Who may act: one-time links, the cookie of a session, and the token against forged requests.

A link from the terminal opens a session once. The session is a cookie that scripts can't read and
that other sites' pages never cause to be sent; an action needs a header besides, whose value only
a page of this origin can ask for. Nothing is kept as it is: what is compared are digests.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

LINK_LIFE_S = 24 * 3600.0
SESSION_LIFE_S = 7 * 24 * 3600.0
MOST = 100


class Sessions:
    """The sessions of one process; they end with it.

    Args:
        port: of the listener; cookies of one host are shared by its ports, so it is in the name.
        clock_s: seconds, from a clock that does not go back.
        token: what opens a session any number of times; None for nothing.
    """

    def __init__(self, port: int, clock_s: Callable[[], float], token: str | None = None) -> None:
        self.cookie = f"kappa_dashboard_{port}"
        self._clock_s, self._lock = clock_s, threading.Lock()
        self._token = None if token is None else _digest(token)
        self._link: tuple[bytes, float] | None = None
        self._open: dict[bytes, tuple[str, float]] = {}

    def new_link(self) -> str:
        """Return a token that opens one session, within a day; the one before opens none."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._link = _digest(token), self._clock_s() + LINK_LIFE_S
        return token

    def log_in(self, token: str) -> tuple[str, bool] | None:
        """Return (session, whether the link is used up) for a token; None for a wrong one."""
        given = _digest(token)
        with self._lock:
            link, now_s = self._link, self._clock_s()
            by_link = link is not None and hmac.compare_digest(given, link[0]) and now_s < link[1]
            by_token = self._token is not None and hmac.compare_digest(given, self._token)
            if not by_link and not by_token:
                return None
            if by_link:
                self._link = None
            session = secrets.token_urlsafe(32)
            self._open = {k: v for k, v in self._open.items() if v[1] > now_s}
            if len(self._open) >= MOST:
                del self._open[next(iter(self._open))]
            self._open[_digest(session)] = secrets.token_urlsafe(32), now_s + SESSION_LIFE_S
        return session, by_link

    def csrf(self, cookies: str) -> str | None:
        """Return what the header of an action must hold, for a request's cookies; None for none."""
        session = _cookie(cookies, self.cookie)
        if session is None:
            return None
        with self._lock:
            held = self._open.get(_digest(session))
        return None if held is None or held[1] < self._clock_s() else held[0]

    def set_cookie(self, session: str, secure: bool) -> str:
        """Return the header that gives a browser the session; ``secure``: over TLS alone."""
        return (
            f"{self.cookie}={session}; Path=/; HttpOnly; SameSite=Strict; "
            f"Max-Age={SESSION_LIFE_S:.0f}{'; Secure' if secure else ''}"
        )


def is_same(given: str, wanted: str) -> bool:
    """Compare two secrets in a time that says nothing about them."""
    return hmac.compare_digest(_digest(given), _digest(wanted))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _cookie(header: str, name: str) -> str | None:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return None if found is None else found.value
