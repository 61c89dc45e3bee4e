"""Models from their packages."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import structlog

from serving.inference.answers import Asked, Predict
from serving.inference.loading import Loader
from streams.errors import ModelError
from streams.settings import AnswerWith
from streams.wire import Registered
from training.answers import Answers
from training.networks.tasks import Binary, Task

if TYPE_CHECKING:
    from training.package import Package

_BINARY = Binary()

_LOG = structlog.get_logger(__name__)


def packaged_models(
    allowed: Collection[str] = (), task: Task = _BINARY, answer_with: AnswerWith = "auto"
) -> Loader:
    """Return the loader of model packages; what it loads has answered a row already.

    What takes long to import is imported now, so that no switch waits for it: ONNX Runtime; torch
    only where it will answer.

    Args:
        allowed: the networks of the user's own that the pipeline file declares: those of a package
            that names another are not imported.
        task: a model of another task is refused.
        answer_with: see :class:`streams.settings.Settings`.
    """
    from training.package import import_runtimes, load_package

    import_runtimes(answer_with, has_own=bool(allowed))

    def load(event: Registered) -> Predict:
        package = load_package(event.uri, event.sha256, allowed, answer_with)
        if package.task != task:
            raise ModelError(
                f"model {event.version} was trained for {package.task}, and the pipeline file "
                f"declares {task}: train a model for it"
            )
        package.warm_up()
        _LOG.info("model loaded", version=event.version, runs_on=package.runs_on)
        return Packaged(package)

    return load


class Packaged:
    """The model of a package; ``last`` says how many events of an entity it sees, 0 for one."""

    def __init__(self, package: Package) -> None:
        self.last, self._package = package.last, package

    def __call__(self, rows: Asked) -> Answers:
        """Return the answers to n rows, or to n histories."""
        return self._package.answers(rows)
