"""The manifest of a training run: everything that decides the model, and nothing else.

No wall-clock time, no path, no random id: the same input gives the same manifest, byte for byte,
so its hash names the model.
"""

import functools
import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from training.declared_json import model_to_json, training_to_json
from training.spec import Model, Training

FORMAT = 2
LIBRARIES = ("numpy", "torch", "safetensors", "pyarrow", "msgspec", "scipy")
_SOURCES = Path(__file__).resolve().parents[2]
_DECIDING = ("streams", "features", "training")


@dataclass(frozen=True)
class ReadRange:
    """What was read of one topic: partition → [first offset, end offset)."""

    topic: str
    offsets: Mapping[int, tuple[int, int]]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: offsets as ``{"0": [first, end], ...}``."""
        offsets = {str(p): list(self.offsets[p]) for p in sorted(self.offsets)}
        return {"topic": self.topic, "offsets": offsets}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "ReadRange":
        """Return the range of :meth:`to_json`; KeyError, TypeError or ValueError where none."""
        bounds = {int(p): (int(first), int(end)) for p, (first, end) in content["offsets"].items()}
        return cls(str(content["topic"]), bounds)


def build_manifest(
    *,
    pipeline: str,
    definition_version: int,
    definition_hash: str,
    features: ReadRange,
    labels: ReadRange,
    since_ms: int | None,
    cutoff_ms: int,
    label_cutoff_ms: int,
    ranks: int,
    model: Model,
    training: Training,
    counts: Mapping[str, int],
    data_sha256: str,
) -> dict[str, Any]:
    """Return the manifest; only JSON types, keys in a fixed order."""
    return {
        "format": FORMAT,
        "pipeline": pipeline,
        "definition": {"version": definition_version, "hash": definition_hash},
        "features": features.to_json(),
        "labels": labels.to_json(),
        "since_ms": since_ms,
        "cutoff_ms": cutoff_ms,
        "label_cutoff_ms": label_cutoff_ms,
        "seed": training.seed,
        "ranks": ranks,
        "model": model_to_json(model),
        "training": training_to_json(training),
        "code": dict(code_version()),
        "libraries": library_versions(),
        "counts": dict(counts),
        "data_sha256": data_sha256,
    }


def manifest_id(manifest: Mapping[str, Any]) -> str:
    """Return the first 16 hex digits of the SHA-256 over the manifest: the name of the model."""
    return hashlib.sha256(msgspec.json.encode(manifest, order="sorted")).hexdigest()[:16]


@functools.cache  # what runs is what was loaded, whatever becomes of the files
def code_version() -> dict[str, str | None]:
    """Return the package's version, the commit of the checkout, and a hash of the code itself.

    The hash covers the source files that decide a model's parameters, so that an edited checkout
    is not taken for the commit it started from.
    """
    sha = hashlib.sha256()
    for folder in _DECIDING:
        for path in sorted((_SOURCES / folder).rglob("*.py")):
            sha.update(f"{path.relative_to(_SOURCES).as_posix()}\0".encode())
            sha.update(path.read_bytes())
    return {
        "version": _installed("kappa-ml"),
        "commit": git_commit(_SOURCES),
        "sha256": sha.hexdigest(),
    }


def library_versions() -> dict[str, str | None]:
    """Return the versions of Python and the libraries that take part in training."""
    return {"python": platform.python_version(), **{name: _installed(name) for name in LIBRARIES}}


def git_commit(checkout: Path) -> str | None:
    """Return the commit that is checked out in ``checkout`` itself, or None where it is none."""
    folder = checkout / ".git"
    try:
        if folder.is_file():  # a worktree or submodule points elsewhere
            folder = (checkout / folder.read_text().removeprefix("gitdir:").strip()).resolve()
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        reference = head.removeprefix("ref:").strip()
        common = folder / "commondir"
        root = (folder / common.read_text().strip()).resolve() if common.is_file() else folder
        loose = root / reference
        if loose.is_file():
            return loose.read_text().strip()
        packed = (root / "packed-refs").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((line.split()[0] for line in packed if line.endswith(f" {reference}")), None)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def differences(manifest: Mapping[str, Any]) -> list[str]:
    """Return in which code and library versions this installation differs from a manifest's.

    The commit is left out: the hash of the code says whether what runs is the same.
    """
    mine = {"code": {**code_version()}, "libraries": library_versions()}
    told = []
    for kind, found in mine.items():
        theirs = manifest.get(kind) or {}
        for name in sorted({*found, *theirs} - {"commit"}):
            if found.get(name) != theirs.get(name):
                what = "code" if kind == "code" and name == "sha256" else f"{kind} {name}"
                told.append(
                    f"{what}: {_short(theirs.get(name))} then, {_short(found.get(name))} now"
                )
    return told


def _short(value: object) -> str:
    return "none" if value is None else str(value)[:12]
