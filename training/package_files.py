"""The files of a model package: read, held against their digests, and parsed."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from streams.errors import ModelError

MANIFEST = "manifest.json"


def read_manifest(uri: str, sha256: str | None) -> tuple[Path, dict[str, Any]]:
    """Return the folder of the package at ``uri``, a path or a file: URI, and its manifest.

    Raises:
        ModelError: it is missing or damaged, or not the one that ``sha256`` names.
    """
    folder = _folder(uri)
    data = _read(folder / MANIFEST)
    _check_digest(folder / MANIFEST, data, sha256)
    return folder, parse(folder / MANIFEST, data)


def read_files(folder: Path, manifest: Mapping[str, Any], names: Sequence[str]) -> dict[str, bytes]:
    """Return files of a package, each checked against the manifest; raises ModelError."""
    files = {name: _read(folder / name) for name in names}
    for name, content in files.items():
        try:
            expected = str(manifest["files"][name])
        except (KeyError, TypeError) as error:
            raise ModelError(f"{folder / MANIFEST} is not a package's: {error!r}") from error
        _check_digest(folder / name, content, expected)
    return files


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder of files, whole or not at all; one that stands there is replaced."""
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


def parse(path: Path, data: bytes) -> dict[str, Any]:
    """Return the JSON object that a file holds; raises ModelError."""
    try:
        content = json.loads(data)
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object")
    return content


def to_bytes(content: Mapping[str, Any]) -> bytes:
    """Return JSON, the same bytes for the same content."""
    return json.dumps(content, sort_keys=True, indent=1, allow_nan=False).encode()


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
