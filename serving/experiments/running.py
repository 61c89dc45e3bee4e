"""Starting, watching, stopping and ending an experiment: the operator's side of the control log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from serving.experiments.findings import Findings, findings_of, to_json
from serving.experiments.metrics import Metric, metric_of
from serving.experiments.planning import Plan, Wish, plan_of
from serving.experiments.reading import Readings, everything, read
from serving.experiments.sizing import shares
from serving.experiments.spans import Spans, spans_of
from serving.pipeline import Pipeline
from streams.changes import Changes
from streams.control import ControlFollower, decode_model_events
from streams.errors import BrokerError, ConfigurationError
from streams.rollout import Change, Experiment, Rollout
from streams.wire import (
    Arm,
    ExperimentStarted,
    ExperimentStopped,
    ModelEvent,
    Routing,
    StageChanged,
)

POLL_S = 0.1
SEEN_TIMEOUT_S = 30.0

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Experiments:
    """The experiments of a pipeline, as the control log has them. :meth:`close` it at the end."""

    def __init__(self, bootstrap: str, pipeline: Pipeline) -> None:
        self.rollout = Rollout()
        self._bootstrap, self._pipeline = bootstrap, pipeline
        self._events: list[ModelEvent] = []
        self._follower = ControlFollower(bootstrap, pipeline.topics.models)
        self._changes = Changes(bootstrap, pipeline.topics.models)
        self.follow()

    def close(self) -> None:
        """Close the connection."""
        self._follower.close()
        self._changes.close()

    def follow(self, timeout_s: float = 0.0) -> Rollout:
        """Return the state at the log's end; or, waiting so long for it, after what comes next."""
        values = self._follower.poll(timeout_s) if timeout_s else self._follower.catch_up()
        events = decode_model_events(values)
        self._events += events
        self.rollout = self.rollout.apply_all(events)
        return self.rollout

    def metrics(self, texts: list[str]) -> list[Metric]:
        """Return what the metrics' names stand for; ConfigurationError where one names nothing."""
        task, label = self._pipeline.model.task, self._pipeline.labels.type
        if not texts or len(set(texts)) < len(texts):
            raise ConfigurationError(f"metrics {texts}: name one at least, and each once")
        return [metric_of(text, task, label) for text in texts]

    def plan(self, texts: list[str], wish: Wish) -> Plan:
        """Return the plan; what the operator does not state comes from the outcomes in the log.

        Raises:
            ConfigurationError: a figure is missing, or out of its range.
            BrokerError: the log can't be read.
        """
        metrics = self.metrics(texts)
        shares(wish.treatments, wish.share)
        definition = self.rollout.cutovers.definition or self._pipeline.features.version
        span = everything(self._pipeline.events.partitions)
        primary = metrics[:1]
        found = read(
            self._bootstrap, self._pipeline, primary, definition, Routing(self.rollout.live), span
        )
        return plan_of(metrics, wish, found)

    def start(
        self, name: str, treatments: list[int], plan: Plan, share: float | None, reason: str
    ) -> ExperimentStarted:
        """Append the start of an experiment against what is live, and return it.

        Raises:
            ConfigurationError: it can't be started now; says why, and what to do.
            BrokerError: the log can't be written or read.
        """
        if _NAME.fullmatch(name) is None:
            raise ConfigurationError(
                f"experiment {name!r}: lower case letters, digits, _ and - only"
            )
        each, _ = shares(len(treatments), share)
        arms = tuple(Arm(version, "experiment", each) for version in treatments)

        def started(rollout: Rollout) -> ExperimentStarted:
            definition = self._startable(rollout, name, treatments)
            return ExperimentStarted(
                name=name,
                definition=definition,
                control=rollout.routing(definition).live,
                arms=arms,
                salt=f"experiment-{name}-{rollout.next_change}",
                plan=plan.to_json(),
                reason=reason,
            )

        self._decide(started)
        return self.experiment(name).started

    def _startable(self, rollout: Rollout, name: str, treatments: list[int]) -> int:
        """Return the definition that the experiment will be on."""
        if name in rollout.experiments:
            raise ConfigurationError(f"experiment {name} is in the log already: choose a new name")
        if len(set(treatments)) < len(treatments):
            raise ConfigurationError(f"treatments {treatments}: name each version once")
        unknown = [version for version in treatments if version not in rollout.versions]
        if unknown or not treatments:
            known = ", ".join(map(str, sorted(rollout.versions))) or "none yet"
            raise ConfigurationError(f"there is no model {unknown}; registered are: {known}")
        live_on = rollout.cutovers.definition or self._pipeline.features.version
        for version in treatments:
            definition = rollout.versions[version].definition
            if definition != live_on:
                raise ConfigurationError(
                    f"model {version} answers features of definition v{definition}, and live is "
                    f"v{live_on}: arms must see the same features; see `kappa cutover`"
                )
        routing = rollout.routing(live_on)
        if routing.live in treatments:
            raise ConfigurationError(
                f"model {routing.live} is live: it is the control, not a treatment"
            )
        running = rollout.experiment(live_on)
        if running is not None:
            raise ConfigurationError(
                f"experiment {running.started.name} is running: end it by "
                f"`kappa experiment stop {running.started.name}`"
            )
        if routing.arms:
            raise ConfigurationError(
                f"model {routing.arms[0].version} is in canary: let it end, or "
                "`kappa models rollback` it, so that the control is one model"
            )
        return live_on

    def experiment(self, name: str) -> Experiment:
        """Return an experiment; raises ConfigurationError where there is none of that name."""
        if name not in self.rollout.experiments:
            known = ", ".join(self.rollout.experiments) or "none yet"
            raise ConfigurationError(f"there is no experiment {name!r}; there are: {known}")
        return self.rollout.experiments[name]

    def spans(self, name: str) -> Spans:
        """Return which features offsets the experiment answered, as far as workers have said."""
        return spans_of(self._events, self.experiment(name).started)

    def waiting_for(self, name: str) -> list[int]:
        """Return the partitions in which no worker routes by the experiment's arms."""
        obeyed = self.spans(name).open_in()
        return [p for p in range(self._pipeline.events.partitions) if p not in obeyed]

    def wait(self, name: str, observe: Callable[[list[int]], None], timeout_s: float) -> bool:
        """Wait until the workers route by the experiment everywhere; return whether they do."""
        deadline_s = time.monotonic() + timeout_s
        while left := self.waiting_for(name):
            observe(left)
            if time.monotonic() > deadline_s:
                return False
            self.follow(POLL_S)
        return True

    def readings(self, name: str) -> tuple[Plan, list[Metric], Readings]:
        """Return the plan, and what the outcomes in the log say up to now.

        Raises:
            BrokerError: the log can't be read.
        """
        self.follow()
        started = self.experiment(name).started
        plan = Plan.from_json(started.plan)
        metrics = self.metrics(list(plan.metrics))
        routing = Routing(started.control, started.salt, started.arms)
        found = read(
            self._bootstrap, self._pipeline, metrics, started.definition, routing, self.spans(name)
        )
        return plan, metrics, found

    def findings(self, name: str) -> tuple[Plan, Readings, Findings]:
        """Return the plan, the readings and what they show."""
        plan, metrics, readings = self.readings(name)
        return plan, readings, findings_of(readings, metrics, plan)

    def stop(self, name: str, reason: str, evidence: dict[str, Any] | None = None) -> None:
        """Append the end of an experiment: its arms answer no more.

        Raises:
            ConfigurationError: it does not run.
        """

        self.experiment(name)

        def stopped(rollout: Rollout) -> ExperimentStopped:
            found = rollout.experiments[name]
            if found.stopped is not None:
                raise ConfigurationError(
                    f"experiment {name} has ended already: {found.stopped.reason}"
                )
            return ExperimentStopped(name, reason, evidence)

        self._decide(stopped)

    def deploy(self, name: str, winner: int | None, force: bool) -> tuple[int, Findings]:
        """End the experiment and put what won live, with the findings as evidence.

        Returns the version that is live now, the control where that won, and the findings.

        Raises:
            ConfigurationError: nothing is decided, or something else, and not ``force``.
        """
        started = self.experiment(name).started
        versions = [started.control, *(arm.version for arm in started.arms)]
        if winner is not None and winner not in versions:
            raise ConfigurationError(f"model {winner} is no arm of {name}: {versions} are")
        _, _, found = self.findings(name)
        verdict = found.verdict
        decided = {"ship": verdict.winner, "keep": started.control}.get(verdict.kind)
        chosen = decided if winner is None else winner
        if chosen is None or (chosen != decided and not force):
            raise ConfigurationError(
                f"experiment {name} says: {verdict.text}. Wait for more outcomes, or state "
                "--winner VERSION --force to decide against or without it"
            )
        live = self.rollout.routing(started.definition).live
        if live not in versions and not force:
            raise ConfigurationError(
                f"experiment {name} compared models {versions}, and {live} is live by now: its "
                "figures say nothing about that one; --force deploys all the same"
            )
        evidence = {"experiment": name, "forced": chosen != decided, **to_json(found)}
        reason = f"experiment {name}: {verdict.text}"
        if chosen == live:
            if self.experiment(name).stopped is None:
                self.stop(name, reason, evidence)
        else:  # which ends the experiment too, so that no batch goes back to the control
            self._decide(
                lambda _: StageChanged(chosen, "live", reason, by="operator", evidence=evidence)
            )
        return chosen, found

    def _decide(self, decision: Callable[[Rollout], Change | None]) -> None:
        """Append what ``decision`` says of the state, numbered, and read on until it is seen."""
        event = self._changes.decide(decision)
        deadline_s = time.monotonic() + SEEN_TIMEOUT_S
        while event is not None and event not in self._events:
            if time.monotonic() > deadline_s:
                raise BrokerError(
                    f"{self._pipeline.topics.models}: change {event.change} was written and is not "
                    f"seen after {SEEN_TIMEOUT_S:.0f} s: is a worker's transaction left open?"
                )
            self.follow(POLL_S)
