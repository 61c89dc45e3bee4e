"""The trials of a search, kept in a file: Optuna's side of it.

A tree-structured Parzen estimator (Bergstra et al. 2011) picks what to try, and a trial is given
up where its validation loss stands above the median of the others at the same epoch. Its random
numbers are a function of (seed, how many were tried before), not of the process: a search that was
interrupted and goes on tries what it would have tried (one at a time; several at once finish in the
order of their luck).
"""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streams.errors import ConfigurationError
from training.retraining.space import Space, declaration, values_of
from training.spec import Model

if TYPE_CHECKING:
    import optuna

FILE = "trials.db"
PRUNED_AFTER = 5
"""So many trials run to their end before any is given up."""
_TOLD_EPOCHS = 1


@dataclass(frozen=True)
class Asked:
    """What is to be tried next; ``place`` counts from 0, and 0 is what is declared."""

    place: int
    model: Model
    trial: optuna.Trial


@dataclass(frozen=True)
class Tried:
    """What became of a trial.

    ``loss`` is the calibrated model's on the slice that trials are judged by, and ``package`` where
    it lies; both None where it was given up or failed, and ``error`` says why it failed.
    """

    place: int
    model: str
    loss: float | None
    epochs: int
    error: str | None = None
    package: str | None = None


class Study:
    """The trials of one name; one process at a time.

    Args:
        folder: where its file lies, and may lie more.
        name: of the study.
        space: what may be tried.
        declared: the model of the pipeline file.
        about: what must not change between two runs of it.
        seed: of the choices.

    Raises:
        ConfigurationError: another process has it open, or it is about something else.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        space: Space,
        declared: Model,
        about: Mapping[str, Any],
        seed: int,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name = folder, name
        self._space, self._declared, self._seed = space, declared, seed
        self._turn = threading.Lock()
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigurationError(
                f"study {name} is searched by another process: wait for it, or give this one "
                "another name by --study"
            ) from None
        pruner = optuna.pruners.MedianPruner(PRUNED_AFTER, n_warmup_steps=_TOLD_EPOCHS)
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{folder / FILE}")
        self._study = optuna.create_study(
            storage=self._storage, study_name=name, pruner=pruner, load_if_exists=True
        )
        self._check(about)
        for left in self._study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            self._study.tell(left.number, state=optuna.trial.TrialState.FAIL)  # it died with us

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()
        self._lock.close()

    def ask(self, most: int) -> Asked | None:
        """Return what to try next, or None where ``most`` are tried or being tried."""
        from optuna.samplers import TPESampler

        with self._turn:
            place = len(self._counting())
            if place >= most:
                return None
            seed = np.random.SeedSequence([self._seed, place]).generate_state(1)[0]
            self._study.sampler = TPESampler(seed=int(seed))
            if place == 0:
                self._study.enqueue_trial(self._as_picked(), skip_if_exists=True)
            trial = self._study.ask()
            picked = self._space.model(self._declared, _Picking(trial))
            model = self._declared if place == 0 else picked
            trial.set_user_attr("model", declaration(model))
            return Asked(place, model, trial)

    def report(self, asked: Asked, epoch: int, loss: float) -> bool:
        """Note the validation loss after an epoch; return whether to give the trial up."""
        with self._turn:
            asked.trial.report(loss, epoch)
            return asked.place > 0 and asked.trial.should_prune()

    def finish(self, asked: Asked, loss: float, package: Path) -> Tried:
        """Note the loss of a trial that ran to its end."""
        with self._turn:
            asked.trial.set_user_attr("package", str(package))
            self._study.tell(asked.trial, loss)
        return self.trials()[asked.place]

    def give_up(self, asked: Asked, error: str | None = None) -> Tried:
        """Note that a trial was given up; ``error``: why it failed."""
        from optuna.trial import TrialState

        with self._turn:
            if error is not None:
                asked.trial.set_user_attr("error", error)
            self._study.tell(asked.trial, state=TrialState.PRUNED)
        return self.trials()[asked.place]

    def trials(self) -> list[Tried]:
        """Return all trials, in the order in which they were begun."""
        from optuna.trial import TrialState

        return [
            Tried(
                place,
                str(trial.user_attrs.get("model", "")),
                trial.value if trial.state == TrialState.COMPLETE else None,
                len(trial.intermediate_values),
                trial.user_attrs.get("error"),
                trial.user_attrs.get("package"),
            )
            for place, trial in enumerate(self._counting())
        ]

    def _counting(self) -> Sequence[optuna.trial.FrozenTrial]:
        from optuna.trial import TrialState

        states = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
        return self._study.get_trials(deepcopy=False, states=states)

    def _as_picked(self) -> dict[str, Any]:
        """Return what is declared in the words of the space, as near as it has them."""
        recorded = _Recording(values_of(self._declared))
        self._space.model(self._declared, recorded)
        return recorded.picked

    def _check(self, about: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps({**about, "space": repr(self._space)}))
        before = self._study.user_attrs.get("about")
        if before is None:
            self._study.set_user_attr("about", now)
        elif before != now:
            differs = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
            self.close()
            raise ConfigurationError(
                f"study {self.name} was begun with another {', '.join(differs)}: its trials can't "
                "be compared with new ones; give another name by --study"
            )


def begun_with(folder: Path) -> dict[str, Any] | None:
    """Return what the study in ``folder`` is about, or None where there is none yet."""
    import optuna

    if not (folder / FILE).is_file():
        return None
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / FILE}")
    try:
        about = optuna.load_study(study_name=folder.name, storage=storage).user_attrs.get("about")
        return None if about is None else dict(about)
    except KeyError:  # it died before it had begun
        return None
    finally:
        storage.remove_session()
        storage.engine.dispose()


class _Picking:
    """Lets an Optuna trial pick."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def among(self, name: str, options: Sequence[str]) -> str:
        return str(self._trial.suggest_categorical(name, options))

    def between(self, name: str, low: float, high: float, log: bool, /) -> float:
        return self._trial.suggest_float(name, low, high, log=log)


class _Recording:
    """Picks what is declared, and notes it."""

    def __init__(self, declared: Mapping[str, Any]) -> None:
        self._declared = declared
        self.picked: dict[str, Any] = {}

    def among(self, name: str, options: Sequence[str]) -> str:
        self.picked[name] = options[options.index(repr(self._declared[name]))]
        return str(self.picked[name])

    def between(self, name: str, low: float, high: float, _: bool, /) -> float:
        self.picked[name] = min(max(self._declared[name], low), high)
        return float(self.picked[name])
