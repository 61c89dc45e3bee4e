"""A training's data in a folder of one's own: for a training loop that is not ours.

::

    manifest.json    what was read, and what came of it
    encoding.json    how feature values became inputs
    train_*.npy, validation_*.npy    see training.dataset.encoded

:class:`training.dataset.examples.SliceArrays` and
:class:`training.dataset.torch_dataset.ReplayDataset` read it; both need numpy and torch alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streams.errors import ConfigurationError
from training.dataset.encoded import write_slices
from training.dataset.encoding import Encoding
from training.dataset.reading import TrainingData
from training.spec import Model


def export(data: TrainingData, model: Model, seed: int, folder: Path) -> Encoding:
    """Write the encoded slices of ``data`` into ``folder``, and return the encoding.

    Class weights, dropped negatives and what the network sees are those of ``model``.

    Raises:
        ConfigurationError: the folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} is not empty: name a new folder for the data")
    prepared = data.prepared
    encoding = Encoding.fit(prepared.numeric_names, prepared.category_names, prepared.train)
    written = write_slices(folder, prepared, encoding, model, seed)
    _write(folder / "encoding.json", encoding.to_json())
    _write(folder / "manifest.json", {**data.manifest, "arrays": written.digests})
    return encoding


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(json.dumps(content, indent=1, sort_keys=True).encode())
