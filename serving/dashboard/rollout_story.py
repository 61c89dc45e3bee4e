"""The rollout: a fold over the control log, who answers now and who decided what, when and why."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

from serving.dashboard.documents.figures import Mark
from serving.dashboard.documents.rollout import (
    Arm,
    Changed,
    Guardrail,
    Judgement,
    Rollout,
    RolloutDefinition,
)
from serving.rollout.obeying import obeyed
from serving.rollout.status import Logged, told_of
from streams import rollout as log_state
from streams.wire import Judged, Registered, Stage, StageChanged

KEPT = 500
"""Changes and judgements that are kept, the newest ones."""


class RolloutStory:
    """What the control log says so far; ``state`` is the rollout itself.

    Args:
        first: the definition that answers before any order.
        partitions: of the features topics.
        policy: what the pipeline file declares, as plain JSON; None for no policy.
    """

    def __init__(self, first: int, partitions: int, policy: dict[str, Any] | None = None) -> None:
        self.revision = 0
        self.state = log_state.Rollout()
        self.live_since_ms: int | None = None
        self._first, self._partitions, self._policy = first, partitions, policy
        self._changes: deque[Changed] = deque(maxlen=KEPT)
        self._judgements: deque[Judgement] = deque(maxlen=KEPT)
        self._guardrails: dict[int, list[Guardrail]] = {}
        self._marks: deque[Mark] = deque(maxlen=KEPT)
        self._cutoff_ms = 0

    @property
    def answering(self) -> int:
        """The definition that answers."""
        return self.state.cutovers.definition or self._first

    def take(self, logged: Logged) -> None:
        """Add a record of the control log."""
        before, event = self.state, logged.event
        self.state = before.apply(event)
        if self.state is before:
            return  # a stale change
        self.revision += 1
        told = told_of(event)
        if told is not None:
            self._changes.append(Changed(logged.offset, logged.time_ms, **told))
        if isinstance(event, Registered):
            self._registered(event)
        elif isinstance(event, Judged):
            self._judge(logged.time_ms, event.version, event.stage, event.verdict, event.reason,
                        event.evidence, event.dry_run)  # fmt: skip
        elif isinstance(event, StageChanged):
            self._staged(logged.time_ms, event)
        if self.state.live != before.live:
            self.live_since_ms = logged.time_ms
            self._marks.append(
                Mark("live", self._cutoff_ms, f"model {self.state.live} live", self.state.live)
            )

    def whole(self) -> Rollout:
        """Return the state and its story."""
        definitions = sorted({self._first, *self.state.routings})
        standing = {arm.version for each in definitions for arm in self._arms(each)}
        return Rollout(
            revision=self.revision,
            policy=self._policy,
            definitions=[self._definition(each) for each in definitions],
            judgements=list(self._judgements),
            guardrails=[g for v in sorted(standing) for g in self._guardrails.get(v, ())],
            changes=list(self._changes),
        )

    def marks(self) -> list[Mark]:
        """Return trainings and changes of the live version, for pictures over event time.

        The control log tells no event time of a change: it is put at the newest cut-off of a
        training that the log had told by then.
        """
        return [mark for mark in self._marks if mark.at_ms]

    def _registered(self, event: Registered) -> None:
        cutoff_ms = int(event.manifest.get("cutoff_ms") or 0)
        self._cutoff_ms = max(self._cutoff_ms, cutoff_ms)
        self._marks.append(
            Mark("training", cutoff_ms, f"model {event.version} trained", event.version)
        )

    def _staged(self, time_ms: int, event: StageChanged) -> None:
        if event.stage == "rolled_back":
            label = f"model {event.version} rolled back"
            self._marks.append(Mark("rolled_back", self._cutoff_ms, label, event.version))
        if event.evidence is not None and event.by == "policy":
            verdict: Literal["promote", "roll_back"] = (
                "roll_back" if event.stage == "rolled_back" else "promote"
            )
            self._judge(
                time_ms, event.version, event.stage, verdict, event.reason, event.evidence, False
            )

    def _judge(
        self, time_ms: int, version: int, stage: Stage,
        verdict: Literal["promote", "hold", "roll_back"], reason: str, evidence: dict[str, Any],
        dry_run: bool,
    ) -> None:  # fmt: skip
        source: Literal["pairs", "arms"] | None = next(
            (s for s in ("arms", "pairs") if isinstance(evidence.get(s), dict)),
            None,
        )
        shown = evidence[source] if source is not None else {}
        estimate = shown.get("difference") or {}
        self._judgements.append(
            Judgement(
                time_ms, version, evidence.get("against"), stage, verdict, reason,
                evidence.get("rule"), source, estimate.get("mean"), shown.get("low"),
                shown.get("high"), evidence.get("margin"), estimate.get("n"),
                evidence.get("share"), dry_run,
            )
        )  # fmt: skip
        rails = evidence.get("guardrails")
        if isinstance(rails, dict):
            self._guardrails[version] = [
                Guardrail(version, name, r.get("value"), r.get("limit"), bool(r.get("tripped")))
                for name, r in rails.items()
            ]

    def _arms(self, definition: int) -> list[Arm]:
        routing = self.state.routing(definition)
        arms = [Arm(arm.version, arm.stage, arm.share) for arm in routing.arms]
        versions = self.state.versions
        shadows = [
            Arm(v, "shadow", None)
            for v in sorted(self.state.shadows)
            if v in versions and versions[v].definition == definition
        ]
        return arms + [arm for arm in shadows if arm.version not in {a.version for a in arms}]

    def _definition(self, definition: int) -> RolloutDefinition:
        experiment = self.state.experiment(definition)
        found = obeyed(self.state, definition, self._partitions)
        return RolloutDefinition(
            definition,
            definition == self.answering,
            self.state.routing(definition).live,
            self._arms(definition),
            self.state.pinned.get(definition),
            None if experiment is None else experiment.started.name,
            found.done,
            sorted(found.left),
        )
