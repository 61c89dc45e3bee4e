from typing import Any

import pytest

from training.dataset.manifest import code_version, library_versions
from training.retraining.verifying import verification

MANIFEST: dict[str, Any] = {
    "definition": {"version": 1, "hash": "d"},
    "counts": {"examples": 9},
    "data_sha256": "x",
    "files": {"model.safetensors": "w", "encoding.json": "e", "reference.json": "r"},
    "calibration": {"scale": 1.0, "bias": 0.25},
    "metrics": {"log_loss": 0.5},
    "run": {"ranks": 2, "device": "cpu", "precision": "float32"},
    "code": {**code_version(), "commit": "another"},
    "libraries": library_versions(),
}


def test_the_same_manifest_is_the_same_model() -> None:
    found = verification(MANIFEST, MANIFEST)
    assert found.equal
    assert found.environment == (), "the commit does not count, the hash of the code does"
    assert found.to_json()["equal"] is True


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"files": {**MANIFEST["files"], "model.safetensors": "v"}}, "weights"),
        ({"calibration": {"scale": 1.0, "bias": 0.250001}}, "calibration"),
        ({"data_sha256": "y"}, "data"),
        ({"metrics": {"log_loss": 0.5000001}}, "metrics"),
        ({"files": {}}, "reference"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_difference_is_told(change: dict[str, Any], what: str) -> None:
    found = verification(MANIFEST, {**MANIFEST, **change})
    assert not found.equal
    assert what in [row.what for row in found.rows if not row.equal]


def test_another_environment_is_told_and_is_no_difference_by_itself() -> None:
    then = {
        **MANIFEST,
        "code": {**code_version(), "sha256": "0" * 64},
        "libraries": {**library_versions(), "torch": "1.0"},
        "run": {**MANIFEST["run"], "device": "cuda"},
    }
    found = verification(then, MANIFEST)
    assert found.equal
    assert [line.split(":")[0] for line in found.environment] == [
        "code", "libraries torch", "device"
    ]  # fmt: skip
