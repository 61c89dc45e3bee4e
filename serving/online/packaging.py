"""A version that was learned online, as a model package like any other."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from serving.online.course import Course
from serving.online.declared import Online
from serving.online.lineage import MANIFEST_KEY
from training.dataset.manifest import FORMAT, code_version, library_versions, manifest_id
from training.package import Parts, load_reference, save_package
from training.retraining.job import TrainedModel


def online_manifest(
    pipeline: str, topic: str, course: Course, declared: Online, command_id: str
) -> dict[str, Any]:
    """Return what made a version: base, outcomes and how they were learned from; nothing of the
    clock on the wall, so the same outcomes give the same manifest."""
    base = course.base
    return {
        "format": FORMAT,
        "pipeline": pipeline,
        "definition": base.manifest["definition"],
        "parent": {"version": base.version, "sha256": base.sha256},
        "cutoff_ms": course.newest_ms + 1,  # a fair comparison is with what came after
        "seed": declared.seed,
        MANIFEST_KEY: {
            "command_id": command_id,
            "declared": asdict(declared),
            "outcomes": {"topic": topic, "offsets": course.offsets()},
            "learned": course.learner.learned,
            "refused": course.learner.refused,
            "too_old": course.too_old,
            "returns": course.learner.returns,
            "taken": course.taken if len(course.positions) > 1 else [],
        },
        "code": dict(code_version()),
        "libraries": library_versions(),
    }


def write_version(
    models: Path, pipeline: str, topic: str, course: Course, parts: Parts, declared: Online
) -> tuple[str, TrainedModel]:
    """Write the package of what was learned so far; return its command id and what it is."""
    command_id = course.command_id
    manifest = online_manifest(pipeline, topic, course, declared, command_id)
    weights, calibration, metrics = course.learner.publish(command_id)
    folder = models / f"online-{manifest_id(manifest)}"
    sha256 = save_package(
        folder,
        weights=weights,
        shape=parts.shape,
        task=parts.task,
        encoding=parts.encoding,
        calibration=calibration,
        reference=load_reference(course.base.uri, course.base.sha256),
        metrics=metrics,
        manifest=manifest,
    )
    course.note_published()
    return command_id, TrainedModel(folder.resolve(), sha256, manifest, metrics, [])


def to_json(trained: TrainedModel, command_id: str) -> dict[str, Any]:
    """Return a version still to be registered, for the state."""
    return {
        "command_id": command_id,
        "package": str(trained.package),
        "sha256": trained.sha256,
        "manifest": trained.manifest,
        "metrics": trained.metrics,
    }


def from_json(told: dict[str, Any]) -> tuple[str, TrainedModel]:
    """Return what :func:`to_json` was given; KeyError or TypeError where it is none."""
    trained = TrainedModel(
        Path(told["package"]), told["sha256"], told["manifest"], told["metrics"], []
    )
    return str(told["command_id"]), trained
