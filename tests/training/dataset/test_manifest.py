"""The manifest: the same input, the same bytes; any other input, another id."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.dataset.manifest import (
    ReadRange,
    build_manifest,
    code_version,
    git_commit,
    manifest_id,
)
from training.spec import Model, Training

INPUT: dict[str, Any] = {
    "pipeline": "p",
    "definition_version": 1,
    "definition_hash": "aa",
    "features": ReadRange("p.features.v1", {1: (0, 5), 0: (3, 9)}),
    "labels": ReadRange("p.labels.v1", {0: (0, 9)}),
    "since_ms": None,
    "cutoff_ms": 1000,
    "label_cutoff_ms": 1000,
    "ranks": 2,
    "model": Model(),
    "training": Training(),
    "counts": {"examples": 5},
    "data_sha256": "bb",
}


def test_same_input_same_bytes() -> None:
    first, second = build_manifest(**INPUT), build_manifest(**INPUT)
    assert json.dumps(first) == json.dumps(second)
    assert json.loads(json.dumps(first)) == first  # only JSON types
    assert first["features"] == {"topic": "p.features.v1", "offsets": {"0": [3, 9], "1": [0, 5]}}
    assert manifest_id(first) == manifest_id(second)


@pytest.mark.parametrize(
    "change",
    [
        {"features": ReadRange("p.features.v1", {0: (3, 10)})},
        {"cutoff_ms": 1001},
        {"model": Model(epochs=9)},
        {"training": Training(seed=8)},
        {"ranks": 1},
        {"data_sha256": "cc"},
    ],
    ids=str,
)
def test_any_other_input_has_another_id(change: dict[str, Any]) -> None:
    assert manifest_id(build_manifest(**INPUT | change)) != manifest_id(build_manifest(**INPUT))


def test_code_is_named_by_version_and_hash() -> None:
    code = code_version()
    assert code["version"]
    assert len(str(code["sha256"])) == 64


def test_commit_of_a_checkout(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert git_commit(tmp_path) is None
    (git / "packed-refs").write_text("# pack-refs\n" + "b" * 40 + " refs/heads/main\n")
    assert git_commit(tmp_path) == "b" * 40
    (git / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
    assert git_commit(tmp_path) == "a" * 40
    (git / "HEAD").write_text("c" * 40 + "\n")
    assert git_commit(tmp_path) == "c" * 40
