"""The model that was live when a training began: what it is compared with, or goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams.errors import TrainingError
from streams.rollout import Rollout


@dataclass(frozen=True)
class Predecessor:
    """A registered model version: where its package lies, and the package's SHA-256 (hex)."""

    version: int
    uri: str
    sha256: str

    @classmethod
    def live(cls, rollout: Rollout, definition: int) -> Predecessor | None:
        """Return the model that is live on ``definition``, else the one that answers now; None
        while that is the pipeline's stated prior."""
        return cls._registered(rollout, rollout.lives.get(definition, 0) or rollout.live)

    @classmethod
    def parent(cls, manifest: Mapping[str, Any], rollout: Rollout) -> Predecessor | None:
        """Return the model from which the one of ``manifest`` went on, or None for a full start.

        Raises:
            TrainingError: the control log does not hold it.
        """
        stated = manifest.get("parent")
        if stated is None:
            return None
        for version, event in sorted(rollout.versions.items()):
            if event.sha256 == stated["sha256"]:
                return cls._registered(rollout, version)
        raise TrainingError(
            f"the model went on from model {stated['version']} with SHA-256 {stated['sha256']}, "
            "which the control log of this pipeline does not hold: make the model again where its "
            "parent was registered"
        )

    @classmethod
    def _registered(cls, rollout: Rollout, version: int) -> Predecessor | None:
        event = rollout.versions.get(version)
        return None if event is None else cls(version, event.uri, event.sha256)

    def to_manifest(self) -> dict[str, Any]:
        """Return what a manifest says of a parent. No path: the same model has the same manifest
        wherever it is made."""
        return {"version": self.version, "sha256": self.sha256}
