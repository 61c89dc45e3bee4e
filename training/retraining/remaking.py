"""Making a model again from its manifest: the same ranges, declarations, seed and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from features.definition import Definition
from streams.errors import TrainingError
from streams.replay import offset_bounds
from training.dataset.manifest import ReadRange
from training.dataset.reading import Progress, read_training_data
from training.declared_json import model_from_json, training_from_json
from training.loop.launch import Check, Launcher, go_on, run_ranks
from training.retraining.job import TrainedModel, TrainingJob, run_training
from training.retraining.predecessor import Predecessor


def job_of(
    manifest: Mapping[str, Any],
    base: TrainingJob,
    definitions: Sequence[Definition],
    parent: Predecessor | None,
) -> TrainingJob:
    """Return the job that makes the model of ``manifest`` again.

    Args:
        manifest: of a package, or as the control log has it.
        base: the pipeline as it is: its log, streams and folder.
        definitions: all that the pipeline declares.
        parent: the model that it went on from (:meth:`Predecessor.parent`), None for a full start.

    Raises:
        TrainingError: it is no manifest, of another pipeline or definition, or the log no longer
            holds what was read.
    """
    try:
        name, definition = manifest["pipeline"], manifest["definition"]
        ranges = ReadRange.from_json(manifest["features"]), ReadRange.from_json(manifest["labels"])
        cutoff_ms, ranks = int(manifest["cutoff_ms"]), int(manifest["ranks"])
        model, training = manifest["model"], manifest["training"]
        version, expected = int(definition["version"]), str(definition["hash"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrainingError(f"this is not the manifest of a training: {error!r}") from error
    if name != base.topics.name:
        raise TrainingError(
            f"the model is of the pipeline {name!r}, not of {base.topics.name!r}: name its "
            "pipeline file with -p"
        )
    declared = {found.version: found for found in definitions}
    if version not in declared:
        raise TrainingError(
            f"the model was trained on definition v{version}, which the pipeline file does not "
            "declare: declare it as it was"
        )
    found = declared[version].hash(base.events, base.labels)
    if found != expected:
        raise TrainingError(
            f"definition v{version} has the hash {found[:12]}, the model was trained on "
            f"{expected[:12]}: the features, or the type of the events, were changed since; check "
            "out the code that declared them (`code` in the manifest)"
        )
    for read in ranges:
        check_log(base.bootstrap, read)
    return replace(
        base,
        topics=replace(base.topics, definition=version),
        definition=declared[version],
        model=model_from_json(model),
        training=training_from_json(training),
        cutoff_ms=cutoff_ms,
        ranks=ranks,
        live=parent,
        ranges=ranges,
    )


def check_log(bootstrap: str, read: ReadRange) -> None:
    """Raise TrainingError unless the topic still holds the offsets of ``read``."""
    bounds = offset_bounds(bootstrap, read.topic, max(read.offsets, default=-1) + 1)
    for partition, (first, end) in read.offsets.items():
        low, high = bounds[partition]
        if first < end and not low <= first <= end <= high:
            raise TrainingError(
                f"{read.topic} holds the offsets {low:,} to {high:,} of partition {partition}, the "
                f"model was trained on {first:,} to {end:,}: the log was deleted, cut by its "
                "retention, or is another one; the model can't be made again from it"
            )


def remake(
    job: TrainingJob,
    manifest: Mapping[str, Any],
    progress: Progress = lambda _: None,
    check: Check = go_on,
    launch: Launcher = run_ranks,
) -> TrainedModel:
    """Train the job of :func:`job_of` and return its package.

    Raises:
        TrainingError: the log holds other records than those that the model learnt from.
    """
    data = read_training_data(job, progress, check)  # kept on disk: training reads it from there
    found, expected = data.manifest["data_sha256"], manifest.get("data_sha256")
    if found != expected:
        counts = manifest.get("counts") or {}
        raise TrainingError(
            f"the same offsets give other examples than those that the model learnt from: "
            f"{data.manifest['counts']['examples']:,} with SHA-256 {found[:12]}, then "
            f"{counts.get('examples', 0):,} with {str(expected)[:12]}: the topics were made anew, "
            "or the labels are read differently"
        )
    return run_training(job, progress, check, launch)
