"""Following the models topic, for those who only look on: in a thread that holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec
import structlog

from streams.control import ControlFollower, decode_model_events
from streams.errors import KappaError
from streams.rollout import Rollout
from streams.wire import ModelEvent

FOLLOW_S = 2.0
PATIENCE_S = 5.0
_LOG = structlog.get_logger()


class RolloutWatch:
    """Follows the models topic in a thread of its own, and tells of each new state.

    Args:
        bootstrap: the brokers.
        topic: the models topic.
        tell: is given the rollout; must not block.
        every_s: seconds between two looks.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        tell: Callable[[Rollout], None],
        every_s: float = FOLLOW_S,
    ) -> None:
        self._bootstrap, self._topic, self._tell = bootstrap, topic, tell
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirroring", daemon=True)

    def __enter__(self) -> RolloutWatch:
        """Begin to follow."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look a last time, and end."""
        self._stop.set()
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        follower = ControlFollower(self._bootstrap, self._topic)
        rollout = Rollout()
        try:
            while True:
                is_last = self._stop.is_set()
                try:
                    rollout = rollout.apply_all(_events(follower.catch_up(PATIENCE_S)))
                    self._tell(rollout)
                except KappaError as error:
                    _LOG.warning("the rollout can't be followed; the registry of MLflow may be "
                                 "behind", why=str(error))  # fmt: skip
                if is_last:
                    return
                self._stop.wait(self._every_s)
        finally:
            follower.close()


def _events(values: list[bytes]) -> Iterator[ModelEvent]:
    for value in values:
        with suppress(msgspec.MsgspecError):  # whose state it is, the trainer, says so
            yield from decode_model_events([value])
