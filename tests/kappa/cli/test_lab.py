"""``kappa lab drift`` from the command line, and that the exercises are found."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from features.processing.stages import stages_of
from kappa.cli.main import app
from kappa.loading import load_pipeline
from kappa.source import recordings_of
from serving.lab.features import rows_of_recordings
from streams.errors import ConfigurationError, KappaError
from streams.merging import first_records
from streams.recording import Recording

PNG = b"\x89PNG\r\n\x1a\n"


def lab(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["lab", *arguments])


def drift(*arguments: str) -> dict[str, Any]:
    result = lab("drift", "--json", *arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_generated_change_of_riders_is_seen_when_it_comes(tmp_path: Path) -> None:
    found = drift(
        "--generate", "--reference", "21d", "--window", "7d", "--out", str(tmp_path / "report")
    )
    before, *_, after = found["windows"]
    assert not before["features"]["user_type"]["alarming"]
    assert after["features"]["user_type"]["alarming"]
    assert after["features"]["user_type"]["psi"] > 1
    assert 0 < after["features"]["station"]["critical"] < 0.1
    report = Path(found["report"])
    assert report.parent == tmp_path / "report"
    assert (report.parent / "drift.png").read_bytes().startswith(PNG)
    text = report.read_text()
    assert re.search(r"\| user_type \|", text)
    assert "bold where it is major" in text


@pytest.mark.data
def test_the_lockdown_of_march_2020_is_visible_in_the_real_trips(
    shared_data: Path, tmp_path: Path
) -> None:
    files = [
        argument
        for month in ("202001", "202002", "202003")
        for argument in (
            "--events", str(shared_data / "citibike_jc" / f"JC-{month}-citibike-tripdata.csv.zip")
        )
    ]  # fmt: skip
    found = drift(*files, "--reference", "30d", "--window", "7d", "--out", str(tmp_path))
    hours = [window["features"]["hour"] for window in found["windows"]]
    assert not any(hour["alarming"] for hour in hours[:6])  # up to 2020-03-10
    assert all(hour["alarming"] for hour in hours[-2:])  # from 2020-03-18 on


@pytest.mark.data
def test_rows_computed_here_pass_through_all_stages_and_labels(shared_data: Path) -> None:
    """Two keys, and features made of labels: each event's row comes out once, and complete."""
    declared = load_pipeline("examples.fraud")
    definition = declared.features
    assert len(stages_of(definition, declared.events, declared.labels, declared.topics)) == 2
    month = shared_data / "fraud_handbook" / "tx_2018-04.parquet"

    def recordings() -> Iterator[Recording]:
        return first_records(recordings_of(declared, month), 150_000)

    rows = list(rows_of_recordings(recordings, declared, definition)())
    events = sum(int((~recording.is_label).sum()) for recording in recordings())
    ids = [event_id for piece in rows for event_id in piece.event_ids]
    assert len(ids) == len(set(ids)) == events > 50_000
    risk = definition.names("numeric").index("risk_30d")
    assert any((piece.numeric[:, risk] > 0).any() for piece in rows)  # known frauds count


@pytest.mark.broker
def test_a_log_without_features_is_told(
    bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = load_pipeline("examples.citibike")
    name = f"t{uuid4().hex[:8]}"
    source = Path("examples/citibike.py").read_text().replace('name="citibike"', f'name="{name}"')
    file = tmp_path / "mine.py"
    file.write_text(source)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    result = lab("drift", "-p", str(file), "--out", str(tmp_path / "report"))
    with pytest.raises(ConfigurationError, match="no feature rows"):
        raise _error(result)
    assert declared.features.names("numeric")


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    for arguments, message in (
        (["--generate", "--events", "a.csv"], "choose one"),
        (["--generate", "--reference", "90d"], "no further than the reference"),
    ):
        result = lab("drift", *arguments, "--out", str(tmp_path))
        with pytest.raises(KappaError, match=message):
            raise _error(result)


def _error(result: Result) -> BaseException:
    assert result.exception is not None
    return result.exception


def test_the_help_names_the_exercises() -> None:
    shown = lab("--help").stdout
    for exercise in ("ddp", "amp", "pipeline", "drift"):
        assert f" {exercise} " in shown
