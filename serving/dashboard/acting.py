"""Actions that were asked for: done one at a time, told in the section of actions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import msgspec
import structlog

from serving.dashboard.documents.actions import Done
from serving.http.problems import ProblemError
from streams.errors import BrokerError, ConfigurationError, DefinitionError, KappaError

LONG = frozenset({"replay"})
"""Actions that go on after they are answered."""

LONGEST_REASON = 500
BY = "operator"

_LOG = structlog.get_logger(__name__)

Action = tuple[type[msgspec.Struct], Callable[[Any], tuple[str, dict[str, Any]]]]


class Acting:
    """Does actions; ``tell`` is given what came of each.

    Args:
        actions: name → what it is told, and what does it.
        tell: takes what was done, also while it is going on.
        now_ms: the clock on the wall.
    """

    def __init__(
        self,
        actions: Mapping[str, Action],
        tell: Callable[[Done], None],
        now_ms: Callable[[], int],
    ) -> None:
        self.names = list(actions)
        self._actions, self._tell, self._now_ms = actions, tell, now_ms
        self._busy = threading.Lock()
        self._running: threading.Thread | None = None

    def do(self, name: str, body: bytes) -> Done:
        """Do what is asked, or begin it where it takes long; the caller's thread waits.

        Raises:
            ProblemError: there is no such action, the order is wrong or makes no sense (409),
                another one is going on, or the broker fails.
        """
        if name not in self._actions:
            known = ", ".join(self.names) or "none here"
            raise ProblemError(
                404, "action", f"there is no action {name[:50]!r}; there are: {known}"
            )
        kind, act = self._actions[name]
        try:
            order = msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            raise ProblemError(422, "order", f"the order of {name} is wrong: {error}") from error
        reason = " ".join(str(getattr(order, "reason", "")).split())[:LONGEST_REASON]
        if not reason:
            raise ProblemError(422, "reason", "say why: `reason` stands in the log")
        order = msgspec.structs.replace(order, reason=reason)
        if not self._busy.acquire(timeout=5.0):
            raise ProblemError(409, "busy", "another action is going on: wait for its end")
        begun = Done(uuid4().hex[:12], name, "started", "", BY, reason, self._now_ms(), {})
        _LOG.info("action", action=name, reason=reason, id=begun.id)
        if name in LONG:
            self._tell(begun)
            self._running = threading.Thread(
                target=self._go_on, args=(begun, act, order), name=f"action-{name}", daemon=True
            )
            self._running.start()
            return begun
        try:
            done = self._done(begun, *act(order))
        except KappaError as error:
            raise problem_of(error) from error
        finally:
            self._busy.release()
        self._tell(done)
        return done

    def _go_on(
        self, begun: Done, act: Callable[[Any], tuple[str, dict[str, Any]]], order: Any
    ) -> None:
        try:
            self._tell(self._done(begun, *act(order)))
        except Exception as error:
            if not isinstance(error, KappaError):
                _LOG.exception("an action failed", action=begun.action)
            self._tell(msgspec.structs.replace(begun, state="failed", text=str(error)))
        finally:
            self._busy.release()

    def _done(self, begun: Done, text: str, result: dict[str, Any]) -> Done:
        at_ms = self._now_ms()
        return msgspec.structs.replace(begun, state="done", text=text, result=result, at_ms=at_ms)


def problem_of(error: KappaError) -> ProblemError:
    """Return the answer to what makes no sense, or can't be done now."""
    if isinstance(error, ConfigurationError | DefinitionError):
        return ProblemError(409, "refused", str(error))
    if isinstance(error, BrokerError):
        return ProblemError(503, "broker", str(error))
    return ProblemError(500, "failed", str(error))
