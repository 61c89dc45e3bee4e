"""A model package: a folder that says all of a model and executes nothing when loaded.

::

    manifest.json        what made the model, its shape, calibration, and the SHA-256 of the rest
    model.safetensors    the weights
    encoding.json        how feature values become inputs
    reference.json       what each feature looked like in training

The package's SHA-256 is that of manifest.json, and so covers every file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from training.calibration import Calibration
from training.dataset.encoding import Encoding
from training.dataset.histories import Histories
from training.dataset.prepared import Columns
from training.networks.shape import Shape
from training.reference import Reference

if TYPE_CHECKING:
    from torch import nn

FORMAT = 2
MANIFEST = "manifest.json"
BLOCK_ROWS = 256


def save_package(
    folder: Path,
    *,
    weights: Mapping[str, NDArray[np.float32]],
    shape: Shape,
    encoding: Encoding,
    calibration: Calibration,
    reference: Reference,
    metrics: Mapping[str, float],
    manifest: Mapping[str, Any],
) -> str:
    """Write a package as ``folder``, whole or not at all, and return its SHA-256 (hex).

    ``manifest`` is what the caller has to say; the package adds its own entries ``format``,
    ``network``, ``calibration``, ``metrics`` and ``files`` to it. The same content gives the same
    bytes. A package that stands there already is replaced.
    """
    from safetensors.numpy import save

    contents = {
        "model.safetensors": save({name: weights[name] for name in sorted(weights)}),
        "encoding.json": _json(encoding.to_json()),
        "reference.json": _json(reference.to_json()),
    }
    whole = {
        **manifest,
        "format": FORMAT,
        "network": shape.to_json(),
        "calibration": {"scale": calibration.scale, "bias": calibration.bias},
        "metrics": dict(metrics),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    }
    contents[MANIFEST] = _json(whole)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, data in contents.items():
        with (temporary / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
    return hashlib.sha256(contents[MANIFEST]).hexdigest()


def load_package(uri: str, sha256: str | None = None) -> Package:
    """Return the package that lies at ``uri``, a path or a file: URI, every file checked.

    Raises:
        ModelError: it is missing or damaged, is not the one that ``sha256`` names, or was written
            by a version that this one can't read.
    """
    folder = _folder(uri)
    data = _read(folder / MANIFEST)
    _check_digest(folder / MANIFEST, data, sha256)
    manifest = _parse(folder / MANIFEST, data)
    if manifest.get("format") != FORMAT:
        raise ModelError(
            f"{folder} has package format {manifest.get('format')!r}, this version reads {FORMAT}: "
            "train the model again, or use the version that wrote it"
        )
    try:
        files = {
            name: _read(folder / name)
            for name in ("model.safetensors", "encoding.json", "reference.json")
        }
        for name, content in files.items():
            _check_digest(folder / name, content, str(manifest["files"][name]))
        network, calibration = manifest["network"], manifest["calibration"]
        encoding = Encoding.from_json(_parse(folder / "encoding.json", files["encoding.json"]))
        reference = Reference.from_json(_parse(folder / "reference.json", files["reference.json"]))
        return Package(
            manifest,
            encoding,
            Calibration(float(calibration["scale"]), float(calibration["bias"])),
            reference,
            _network(
                Shape.from_json(network),
                files["model.safetensors"],
                folder,
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / MANIFEST} is not a package's manifest: {error!r}") from error


def load_reference(uri: str, sha256: str | None = None) -> Reference:
    """Return only the reference of the package at ``uri``; needs no torch. Errors as above."""
    folder = _folder(uri)
    data = _read(folder / MANIFEST)
    _check_digest(folder / MANIFEST, data, sha256)
    content = _read(folder / "reference.json")
    try:
        expected = str(_parse(folder / MANIFEST, data)["files"]["reference.json"])
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / MANIFEST} is not a package's manifest: {error!r}") from error
    _check_digest(folder / "reference.json", content, expected)
    return Reference.from_json(_parse(folder / "reference.json", content))


@dataclass(frozen=True)
class Parts:
    """What a package holds, as values rather than as a network."""

    manifest: dict[str, Any]
    shape: Shape
    encoding: Encoding
    weights: dict[str, NDArray[np.float32]]


def load_parts(uri: str, sha256: str | None = None) -> Parts:
    """Return weights, shape and encoding of the package at ``uri``; no torch. Errors as above."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    folder = _folder(uri)
    data = _read(folder / MANIFEST)
    _check_digest(folder / MANIFEST, data, sha256)
    manifest = _parse(folder / MANIFEST, data)
    try:
        files = {name: _read(folder / name) for name in ("model.safetensors", "encoding.json")}
        for name, content in files.items():
            _check_digest(folder / name, content, str(manifest["files"][name]))
        return Parts(
            manifest,
            Shape.from_json(manifest["network"]),
            Encoding.from_json(_parse(folder / "encoding.json", files["encoding.json"])),
            load(files["model.safetensors"]),
        )
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ModelError(f"{folder / MANIFEST} is not a package's manifest: {error!r}") from error


class Package:
    """A loaded model."""

    def __init__(
        self,
        manifest: dict[str, Any],
        encoding: Encoding,
        calibration: Calibration,
        reference: Reference,
        network: nn.Module,
    ) -> None:
        import torch

        torch.set_num_threads(1)  # sums in one order; workers scale by partitions
        self.manifest = manifest
        self.reference = reference
        self._encoding, self._calibration, self._network = encoding, calibration, network

    @property
    def last(self) -> int:
        """How many events of an entity the network sees, or 0 for the one event alone."""
        return Shape.from_json(self.manifest["network"]).last

    def predict(self, rows: Columns | Histories) -> NDArray[np.float64]:
        """Return the calibrated probability of label 1 for each row, shape (n,).

        A network that sees an entity's last events (:attr:`last`) takes histories. The answer to a
        row depends on that row, or that history, alone, to the last bit: the network always sees
        blocks of the same number of rows, filled up with zeros, so that the same kernels run.
        Raises ModelError where the columns are not those of the model's definition.
        """
        import torch

        last = self.last
        if isinstance(rows, Histories) != (last > 0):
            raise ModelError(
                f"the network sees {last or 'no'} last events of an entity, and was given "
                f"{'histories' if not last else 'rows without their histories'}"
            )
        n = len(rows) if isinstance(rows, Histories) else len(rows.numeric)
        logits = np.empty(-(-n // BLOCK_ROWS) * BLOCK_ROWS, np.float32)
        with torch.inference_mode():
            blocks = self._histories(rows) if isinstance(rows, Histories) else self._rows(rows)
            for i, inputs in enumerate(blocks):
                answer = self._network(*map(torch.from_numpy, inputs))
                logits[i * BLOCK_ROWS : (i + 1) * BLOCK_ROWS] = answer.numpy()[:, 0]
        return self._calibration.probabilities(logits.astype(np.float64))[:n]

    def _rows(self, rows: Columns) -> Iterator[tuple[NDArray[Any], ...]]:
        """Yield the inputs of blocks of rows."""
        n = len(rows.numeric)
        numeric, codes = self._encoded(rows, -(-n // BLOCK_ROWS) * BLOCK_ROWS)
        for start in range(0, n, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            yield numeric[block], codes[block]

    def _histories(self, rows: Histories) -> Iterator[tuple[NDArray[Any], ...]]:
        """Yield the inputs of blocks of histories; each event is encoded once."""
        # Behind the events one of zeros: what an index of −1 finds.
        numeric, codes = self._encoded(rows.events, len(rows.events.numeric) + 1)
        for start in range(0, len(rows), BLOCK_ROWS):
            index = np.full((BLOCK_ROWS, self.last), -1)
            block = rows.index[start : start + BLOCK_ROWS, -self.last :]
            index[: len(block)] = block
            lengths = np.maximum((index >= 0).sum(1), 1)  # of a history that fills up: 1
            yield numeric[index], codes[index], lengths

    def _encoded(self, rows: Columns, size: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the inputs of rows, filled up with zeros to ``size`` rows."""
        n = len(rows.numeric)
        numeric = np.zeros((size, self._encoding.numeric_width), np.float32)
        codes = np.zeros((size, len(self._encoding.category_names)), np.int64)
        numeric[:n] = self._encoding.numeric_inputs(rows.numeric)
        codes[:n] = self._encoding.codes(rows.categories, n)
        return numeric, codes


def _network(shape: Shape, weights: bytes, folder: Path) -> nn.Module:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from training.networks.build import build

    try:
        with torch.random.fork_rng(devices=[]):  # building draws initial values; disturb nobody
            network = build(shape)
        network.load_state_dict(load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"the weights in {folder} do not fit the network that its manifest describes: {error}"
        ) from error
    return network.eval()


def _folder(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme and "://" in uri:
        raise ModelError(f"model package {uri}: only paths and file: URIs can be loaded")
    return Path(uri)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"model package file {path} can't be read ({error.strerror}): restore the folder, or "
            "train the model again"
        ) from error


def _check_digest(path: Path, data: bytes, expected: str | None) -> None:
    found = hashlib.sha256(data).hexdigest()
    if expected is not None and found != expected:
        raise ModelError(
            f"{path} has SHA-256 {found}, but {expected} was registered: the file was changed or "
            "damaged; restore it, or train the model again"
        )


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object")
    return content


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1, allow_nan=False).encode()
