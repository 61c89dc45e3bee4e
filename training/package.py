"""A model package: a folder that says all of a model and executes nothing when loaded.

::

    manifest.json        what made the model, its task, shape, calibration, and the SHA-256 of the
                         rest
    model.safetensors    the weights
    encoding.json        how feature values become inputs
    reference.json       what each feature looked like in training

The package's SHA-256 is that of manifest.json, and so covers every file. A network of the user's
own is named by the package, not contained: it is imported only where the caller allows that name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from training.answering import BLOCK_ROWS, Package
from training.calibration import Calibration, calibration_from_json
from training.dataset.encoding import Encoding
from training.networks.declared import Custom
from training.networks.shape import Shape
from training.networks.tasks import Task, task_from_json, task_to_json
from training.package_files import (
    MANIFEST,
    parse,
    read_files,
    read_manifest,
    to_bytes,
    write_folder,
)
from training.reference import Reference

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "BLOCK_ROWS", "FORMAT", "Package", "Parts", "load_package", "load_parts", "load_reference",
    "save_package",
]  # fmt: skip

FORMAT = 3


def save_package(
    folder: Path,
    *,
    weights: Mapping[str, NDArray[np.float32]],
    shape: Shape,
    task: Task,
    encoding: Encoding,
    calibration: Calibration,
    reference: Reference,
    metrics: Mapping[str, float],
    manifest: Mapping[str, Any],
) -> str:
    """Write a package as ``folder``, whole or not at all, and return its SHA-256 (hex).

    ``manifest`` is what the caller has to say; the package adds its own entries ``format``,
    ``task``, ``network``, ``calibration``, ``metrics`` and ``files`` to it. The same content gives
    the same bytes. A package that stands there already is replaced.
    """
    from safetensors.numpy import save

    contents = {
        "model.safetensors": save({name: weights[name] for name in sorted(weights)}),
        "encoding.json": to_bytes(encoding.to_json()),
        "reference.json": to_bytes(reference.to_json()),
    }
    contents[MANIFEST] = to_bytes(
        {
            **manifest,
            "format": FORMAT,
            "task": task_to_json(task),
            "network": shape.to_json(),
            "calibration": calibration.to_json(),
            "metrics": dict(metrics),
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
        }
    )
    write_folder(folder, contents)
    return hashlib.sha256(contents[MANIFEST]).hexdigest()


@dataclass(frozen=True)
class Parts:
    """What a package holds, as values rather than as a network."""

    manifest: dict[str, Any]
    task: Task
    shape: Shape
    encoding: Encoding
    calibration: Calibration
    weights: dict[str, NDArray[np.float32]]


def load_parts(uri: str, sha256: str | None = None) -> Parts:
    """Return what the package at ``uri`` holds, every file checked; needs no torch.

    Raises:
        ModelError: it is missing or damaged, is not the one that ``sha256`` names, or was written
            by a version that this one can't read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    folder, manifest = read_manifest(uri, sha256)
    if manifest.get("format") != FORMAT:
        raise ModelError(
            f"{folder} has package format {manifest.get('format')!r}, this version reads {FORMAT}: "
            "train the model again, or use the version that wrote it"
        )
    files = read_files(folder, manifest, ("model.safetensors", "encoding.json", "reference.json"))
    try:
        return Parts(
            manifest,
            task_from_json(manifest["task"]),
            Shape.from_json(manifest["network"]),
            Encoding.from_json(parse(folder / "encoding.json", files["encoding.json"])),
            calibration_from_json(manifest["calibration"]),
            load(files["model.safetensors"]),
        )
    except SafetensorError as error:
        raise ModelError(f"{folder / 'model.safetensors'} holds no weights: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / MANIFEST} is not a package's manifest: {error!r}") from error


def load_package(uri: str, sha256: str | None = None, allowed: Collection[str] = ()) -> Package:
    """Return the model of the package at ``uri``, ready to answer.

    ``allowed`` are the networks of the user's own, "package.module:Class", that may be imported:
    those that the pipeline file declares.

    Raises:
        ModelError: as :func:`load_parts`; or its network is none that is allowed, or does not fit
            the weights.
    """
    parts = load_parts(uri, sha256)
    match parts.shape.network:
        case Custom(network=name) if name not in allowed:
            raise ModelError(
                f"{uri} names the network {name}, whose module would be executed, and the pipeline "
                f"file declares {', '.join(sorted(allowed)) or 'none of its own'}: declare "
                f"Custom({name!r}), or train a model with what is declared"
            )
    return Package(
        parts.manifest,
        parts.task,
        parts.shape,
        parts.encoding,
        parts.calibration,
        load_reference(uri, sha256),
        _network(parts, uri),
    )


def load_reference(uri: str, sha256: str | None = None) -> Reference:
    """Return only the reference of the package at ``uri``; needs no torch. Errors as above."""
    folder, manifest = read_manifest(uri, sha256)
    content = read_files(folder, manifest, ("reference.json",))["reference.json"]
    return Reference.from_json(parse(folder / "reference.json", content))


def _network(parts: Parts, uri: str) -> nn.Module:
    import torch

    from training.networks.alignment import align
    from training.networks.build import build

    try:
        with torch.random.fork_rng(devices=[]):  # building draws initial values; disturb nobody
            network = build(parts.shape)
        network.load_state_dict({k: torch.from_numpy(v) for k, v in parts.weights.items()})
    except RuntimeError as error:
        raise ModelError(
            f"the weights in {uri} do not fit the network that its manifest describes: {error}"
        ) from error
    return align(network.eval())
