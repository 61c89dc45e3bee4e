"""A model package: a folder that says all of a model and executes nothing when loaded.

::

    manifest.json        what made the model, its task, shape, calibration, and the SHA-256 of the
                         rest
    model.safetensors    the weights
    model.onnx           the network with its weights, for ONNX Runtime; only where that was seen
                         to answer as torch does (``onnx`` in the manifest says so, or why not)
    encoding.json        how feature values become inputs
    reference.json       what each feature looked like in training

The package's SHA-256 is that of manifest.json, and so covers every file. A network of the user's
own is named by the package, not contained: it is imported only where the caller allows that name.

What answers: torch where there is a GPU, ONNX Runtime on a CPU (without torch being imported), and
torch there too where the package has no model.onnx.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from streams.errors import ModelError
from streams.settings import AnswerWith
from training.answering import Network, Package
from training.calibration import Calibration, calibration_from_json
from training.dataset.encoding import Encoding
from training.networks.declared import Custom
from training.networks.shape import Shape
from training.networks.tasks import Task, task_from_json, task_to_json
from training.onnx_export import Exported, export
from training.onnx_runtime import OnnxNetwork, UnsteadyError
from training.package_files import (
    MANIFEST,
    parse,
    read_files,
    read_manifest,
    to_bytes,
    write_folder,
)
from training.reference import Reference
from training.torch_runtime import TorchNetwork, has_gpu, require_gpu

__all__ = [
    "FORMAT", "Package", "Parts", "import_runtimes", "load_package", "load_parts",
    "load_reference", "save_package",
]  # fmt: skip

FORMAT = 4

_FILES = ("model.safetensors", "encoding.json", "reference.json")
_ONNX = "model.onnx"

_LOG = structlog.get_logger(__name__)


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
    exported: Exported | None = None,
) -> str:
    """Write a package as ``folder``, whole or not at all, and return its SHA-256 (hex).

    ``manifest`` is what the caller has to say; the package adds its own entries ``format``,
    ``task``, ``network``, ``calibration``, ``metrics``, ``onnx`` and ``files`` to it. The same
    content gives the same bytes. A package that stands there already is replaced.

    ``exported`` is the network for ONNX Runtime, as it was tried on real rows; without it, it is
    made here and tried on inputs that are drawn, for which torch is imported.
    """
    from safetensors.numpy import save

    if exported is None:
        exported = export(shape, weights, encoding)

    contents = {
        "model.safetensors": save({name: weights[name] for name in sorted(weights)}),
        "encoding.json": to_bytes(encoding.to_json()),
        "reference.json": to_bytes(reference.to_json()),
    }
    if exported.model is not None:
        contents[_ONNX] = exported.model
    contents[MANIFEST] = to_bytes(
        {
            **manifest,
            "format": FORMAT,
            "task": task_to_json(task),
            "network": shape.to_json(),
            "calibration": calibration.to_json(),
            "metrics": dict(metrics),
            "onnx": exported.about,
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
        }
    )
    write_folder(folder, contents)
    return hashlib.sha256(contents[MANIFEST]).hexdigest()


@dataclass(frozen=True)
class Parts:
    """What a package holds, as values rather than as a network.

    ``onnx`` is the network for ONNX Runtime; None where it can't run it.
    """

    manifest: dict[str, Any]
    task: Task
    shape: Shape
    encoding: Encoding
    calibration: Calibration
    weights: dict[str, NDArray[np.float32]]
    onnx: bytes | None


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
    listed = manifest.get("files")
    has_onnx = isinstance(listed, Mapping) and _ONNX in listed
    files = read_files(folder, manifest, (*_FILES, _ONNX) if has_onnx else _FILES)
    try:
        return Parts(
            manifest,
            task_from_json(manifest["task"]),
            Shape.from_json(manifest["network"]),
            Encoding.from_json(parse(folder / "encoding.json", files["encoding.json"])),
            calibration_from_json(manifest["calibration"]),
            load(files["model.safetensors"]),
            files.get(_ONNX),
        )
    except SafetensorError as error:
        raise ModelError(f"{folder / 'model.safetensors'} holds no weights: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / MANIFEST} is not a package's manifest: {error!r}") from error


def load_package(
    uri: str,
    sha256: str | None = None,
    allowed: Collection[str] = (),
    answer_with: AnswerWith = "auto",
) -> Package:
    """Return the model of the package at ``uri``, ready to answer.

    Args:
        uri: a path or a file: URI.
        sha256: of the package, or None for whatever lies there.
        allowed: the networks of the user's own, "package.module:Class", that may be imported: those
            that the pipeline file declares.
        answer_with: see :class:`streams.settings.Settings`.

    Raises:
        ModelError: as :func:`load_parts`; or its network is none that is allowed, or does not fit
            the weights.
        ConfigurationError: it shall answer on a GPU, and there is none.
    """
    parts = load_parts(uri, sha256)
    match parts.shape.network:
        case Custom(network=name) if name not in allowed:
            raise ModelError(
                f"{uri} names the network {name}, whose module would be executed, and the pipeline "
                f"file declares {', '.join(sorted(allowed)) or 'none of its own'}: declare "
                f"Custom({name!r}), or train a model with what is declared"
            )
    try:
        network = _network(parts, answer_with)
    except ModelError as error:
        raise ModelError(f"the package {uri}: {error}") from error
    return Package(
        parts.manifest,
        parts.task,
        parts.shape,
        parts.encoding,
        parts.calibration,
        load_reference(uri, sha256),
        network,
    )


def import_runtimes(answer_with: AnswerWith = "auto", has_own: bool = False) -> None:
    """Import what runs the models, so that loading one takes milliseconds later.

    ``has_own``: networks of the user's own may come, which only torch runs.
    """
    if answer_with in ("torch", "cuda") or has_own or (answer_with == "auto" and has_gpu()):
        import torch  # noqa: F401
    else:
        import onnxruntime  # noqa: F401


def load_reference(uri: str, sha256: str | None = None) -> Reference:
    """Return only the reference of the package at ``uri``; needs no torch. Errors as above."""
    folder, manifest = read_manifest(uri, sha256)
    content = read_files(folder, manifest, ("reference.json",))["reference.json"]
    return Reference.from_json(parse(folder / "reference.json", content))


def _network(parts: Parts, answer_with: AnswerWith) -> Network:
    if answer_with == "cuda":
        require_gpu()
    if answer_with == "cuda" or (answer_with == "auto" and has_gpu()):
        return TorchNetwork(parts.weights, parts.shape, "cuda")
    if parts.onnx is None or answer_with == "torch":
        return TorchNetwork(parts.weights, parts.shape)
    try:
        return OnnxNetwork(parts.onnx, parts.shape)
    except UnsteadyError as error:
        _LOG.warning("torch answers in place of ONNX Runtime", reason=str(error))
        return TorchNetwork(parts.weights, parts.shape)
