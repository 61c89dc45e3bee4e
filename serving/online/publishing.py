"""What becomes of what was learned: a version like any other, or its withdrawal.

Without a rollout policy a version is live at once; with one it goes into shadow, in place of the
one that was there before, and the rollout's worker carries it on. All of it may be done again after
a crash: what stands in the log already is found there.
"""

from __future__ import annotations

from pathlib import Path

import structlog
from msgspec.structs import replace

from serving.online.course import Course
from serving.online.guarded import Returned
from serving.online.lineage import trained_version
from serving.online.versions import BY, Versions
from serving.pipeline import Pipeline
from streams.positions import PositionReader
from streams.rollout import Rollout
from streams.wire import Positions, Registered, Stage, StageChanged
from training.retraining.job import TrainedModel

_LOG = structlog.get_logger(__name__)


class Publishing:
    """Publishes the versions of one pipeline.

    Args:
        bootstrap: the brokers.
        pipeline: the pipeline.
        models: the folder of its packages.
        keep: how many packages of past online versions stay there.
    """

    def __init__(self, bootstrap: str, pipeline: Pipeline, models: Path, keep: int) -> None:
        self._pipeline, self._models, self._keep = pipeline, models, keep
        self._versions = Versions(bootstrap, pipeline.topics.models)
        self._ends = PositionReader(bootstrap)

    def base(self) -> Registered | None:
        """Return the trained version to learn from by the log as it is now; None for none."""
        rollout = self._versions.follow()
        return self._versions.base(rollout.cutovers.definition or self._pipeline.features.version)

    def publish(self, course: Course, command_id: str, trained: TrainedModel) -> None:
        """Register a version, let it answer, and remove packages that nobody needs."""
        self._put_in_place(course, self._versions.register(trained, command_id))
        self._prune(course)

    def tell_return(self, course: Course, returned: Returned) -> None:
        """Withdraw what was published behind the weights that the learner went back to."""
        versions, base = self._versions, course.base
        versions.follow()
        good = versions.of_command(returned.published) if returned.published else None
        instead = base.version if good is None else good.version
        _LOG.warning("online weights answer worse: back", to=returned.to, instead=instead)
        why = f"the guard found what was learned worse than model {base.version}"
        for event in versions.learned(base.version):
            if good is not None and event.version <= good.version:
                continue
            back = StageChanged(
                event.version, "rolled_back", why, by=BY, evidence=returned.evidence
            )
            if not self._withdraw(back, ("shadow", "canary")):
                versions.stage(
                    replace(back, instead=instead),
                    lambda r, v=event.version: r.routing(base.definition).live == v,  # type: ignore[misc]
                )

    def close(self) -> None:
        """Close the connections."""
        self._versions.close()
        self._ends.close()

    def _put_in_place(self, course: Course, made: Registered) -> None:
        versions, version, base = self._versions, made.version, course.base

        def still(rollout: Rollout) -> bool:
            """Not done before a crash, and no other trained version came live meanwhile."""
            live = rollout.routing(base.definition).live
            return version not in rollout.stages and trained_version(rollout, live) == base

        live = StageChanged(
            version, "live", f"learned from {course.learner.learned:,} outcomes since model "
            f"{base.version}", by=BY, evidence={"metrics": made.metrics},
        )  # fmt: skip
        if self._pipeline.rollout is None:
            versions.stage(live, still)
            return
        if versions.stage(
            replace(live, stage="shadow", since=self._features_ends(base.definition)), still
        ):
            for earlier in versions.learned(base.version):
                if earlier.version < version:
                    why = f"model {version} has learned more"
                    self._withdraw(
                        StageChanged(earlier.version, "retired", why, by=BY), ("shadow",)
                    )

    def _withdraw(self, change: StageChanged, stages: tuple[Stage, ...]) -> bool:
        """Take a version out of one of ``stages``; return whether it was in one."""
        return self._versions.stage(
            change, lambda rollout: rollout.stages.get(change.version) in stages
        )

    def _features_ends(self, version: int) -> Positions:
        definition = self._pipeline.definition(version)
        topic = self._pipeline.topics_of(definition).features
        ends = self._ends.ends({topic: self._pipeline.events.partitions})[topic]
        return {str(p): at for p, at in sorted(ends.items())}

    def _prune(self, course: Course) -> None:
        commands = course.learner.standing
        also = [v.version for c in commands if (v := self._versions.of_command(c)) is not None]
        gone = self._versions.prune(self._models, self._keep, also)
        if gone:
            _LOG.info("packages of past online versions removed", versions=gone)
