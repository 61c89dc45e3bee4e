"""Answers parts of a file and writes them; what is refused goes into a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.batch.parts import Part, Parts
from serving.batch.writing import Added, Output
from serving.inference.answers import Asked, Predict, checked_answers
from streams.errors import SourceError
from training.answers import Answers
from training.networks.tasks import MultiClass, Task


@dataclass
class Counts:
    """How many rows were answered and refused so far."""

    answered: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Answerer:
    """What answers: ``model`` is told in each row as what did."""

    predict: Predict
    task: Task
    model: int | str


def answer_parts(
    parts: Parts,
    answerer: Answerer,
    out: Path,
    rejects: Path,
    progress: Callable[[Counts], None] = lambda _: None,
) -> Counts:
    """Write the answers to ``out``, whole or not at all, and what was refused to ``rejects``.

    ``rejects`` holds JSON lines, {"row", "reason", "record"}, and is there only where something was
    refused. Memory is that of one part.

    Raises:
        SourceError: the file can't be read, or one of the two can't be written.
        ModelError: the model gives no answers of its task.
    """
    counts = Counts()
    rejects.unlink(missing_ok=True)
    with ExitStack() as stack:
        output = stack.enter_context(Output(out))
        told: IO[bytes] | None = None
        for part in parts:
            if len(part.asked):
                asked = cast("Asked", part.asked)  # of rows a model reads the columns alone
                answers = checked_answers(answerer.predict, asked, answerer.task)
                output.write(part.told, added(answers, answerer))
                counts.answered += len(answers)
            if part.refused:
                told = told or stack.enter_context(_opened(rejects))
                told.writelines(_lines(part))
                counts.refused += len(part.refused)
            progress(counts)
    return counts


def added(answers: Answers, answerer: Answerer) -> Added:
    """Return the columns that answers add to their rows."""
    n = len(answers)
    columns: dict[str, NDArray[Any]] = {"score": answers.score}
    if answers.probabilities is not None and isinstance(answerer.task, MultiClass):
        places = answers.probabilities.argmax(axis=1)
        columns["class"] = np.array(answerer.task.classes)[places]
        for i, name in enumerate(answerer.task.classes):
            columns[f"probability_{name}"] = answers.probabilities[:, i]
    if answers.spread is not None:
        columns["spread"] = answers.spread
    columns["model"] = np.full(n, answerer.model)
    return columns


def _lines(part: Part) -> list[bytes]:
    return [msgspec.json.encode(each) + b"\n" for each in part.refused]


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("wb")
    except OSError as error:
        raise SourceError(f"{path} can't be written: {error}") from error
