"""How ``kappa shadow`` tells what a version would have answered."""

import numpy as np
from typer.testing import CliRunner

from kappa.cli.main import app
from kappa.cli.shadow import shadow_lines
from serving.shadowing.figures import Figures
from serving.shadowing.pairs import Pairs
from serving.shadowing.periods import periods
from training.networks.tasks import Binary

HOUR = 3_600_000


def figures(n: int, labelled: int) -> Figures:
    """Return those of n events, an hour apart: the version is right where live was unsure."""
    random = np.random.default_rng(5)
    labels = (random.random(n) < 0.3).astype(float)
    live = np.full((n, 1), 0.4)
    version = np.where(labels > 0, 0.9, 0.1)[:, None]
    labels[labelled:] = np.nan
    found = Figures(Binary(), periods("UTC", "day"))
    found.add(
        Pairs([str(i) for i in range(n)], np.arange(n) * HOUR, np.full(n, 2), live, version, labels)
    )
    return found


def test_a_better_version_is_told_with_its_interval() -> None:
    told = {**figures(600, 500).to_json(), "without_live": 7}
    lines = shadow_lines(3, told)
    assert lines[0].startswith("model 3 against what answered then (v2 600): 600 rows")
    assert "decisions that differ" in lines[0]
    assert lines[1] == "7 events had no answer on the live path"
    assert lines[2] == "500 of the rows have a label"
    (brier,) = [line for line in lines if line.startswith("brier: ")]
    assert "model 3 0.0100, difference -0.2" in brier
    assert brier.endswith("(95 %)")


def test_without_time_there_is_no_interval() -> None:
    told = {**figures(2, 2).to_json(), "without_live": 0}
    lines = shadow_lines(3, told)
    assert not any("no answer" in line for line in lines)
    assert "too little time for an interval" in lines[-1]


def test_a_range_wants_a_time_or_an_offset() -> None:
    result = CliRunner().invoke(app, ["shadow", "3", "--from", "yesterday"])
    assert result.exit_code
    assert "--from" in str(result.exception or result.output)
