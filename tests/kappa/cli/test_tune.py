"""``kappa tune``: what a user sees."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kappa.cli.main import app
from kappa.cli.tune import _print
from streams.errors import ConfigurationError, TrainingError
from tests.training.pipelines import Log, new_log, time_ms
from training.dataset.reading import TrainingData
from training.loop.launch import Launcher
from training.retraining.comparison import Comparison, Interval, Paired
from training.retraining.job import TrainingJob
from training.retraining.search import Found, split_last
from training.retraining.study import Study, Tried

DECLARATION = """
from kappa import Model, Pipeline, Space, Tabular, Training
from tests.training.pipelines import DEFINITION, EVENTS, LABELS

pipeline = Pipeline(
    name="{name}",
    events=EVENTS,
    labels=LABELS,
    features=DEFINITION,
    model=Model(network=Tabular(hidden=(8,)), epochs=2, batch=64, learning_rate={rate}),
    training=Training(window=None, minimum_examples=100, validation=0.4),
    search=Space(hidden=(), dropout=(), weight_decay=(), batch=(), half_life=()),
)
"""


def declare(folder: Path, log: Log, rate: float = 1e-4) -> str:
    """Write the file of a pipeline on the log, and return its path."""
    path = folder / f"{log.topics.name}_{rate * 1e6:.0f}.py"
    path.write_text(DECLARATION.format(name=log.topics.name, rate=rate))
    return str(path)


@pytest.fixture
def log(bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    return new_log(bootstrap)


def tune(declared: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["tune", "-p", declared, "--ranks", "1", "--json", *options])


class Searches:
    """Stands in for ``search``, whose trials take ranks: one more trial, without training."""

    def __init__(self) -> None:
        self.examples: list[int] = []
        self.launchers = 0

    def __call__(
        self,
        job: TrainingJob,
        data: TrainingData,
        study: Study,
        launchers: Sequence[Launcher],
        most: int,
        tell: Callable[[Tried], None],
        more: Callable[[], bool],
    ) -> Found:
        self.launchers = len(launchers)
        self.examples.append(job.cutoff_ms)
        judging, last = split_last(data.prepared)
        while more() and (asked := study.ask(most)) is not None:
            tell(study.finish(asked, 0.5 - asked.place / 10, Path("model")))
        trials = study.trials()
        sizes = (len(judging.train), len(judging.validation), len(last))
        return Found(trials, trials[-1], Comparison(0, not_compared="a test"), sizes)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Searches:
    made = Searches()
    monkeypatch.setattr("training.retraining.search.search", made)
    return made


@pytest.mark.broker
def test_a_study_goes_on_with_the_data_it_began_with(
    log: Log, tmp_path: Path, searches: Searches
) -> None:
    log.fill(0, 1_200)
    declared = declare(tmp_path, log)
    first = shown(tune(declared, "--study", "mine", "--trials", "1"))
    log.fill(1_200, 1_300)
    second = shown(tune(declared, "--study", "mine", "--trials", "3", "--jobs", "2"))
    assert searches.examples == [time_ms(1_199) + 501] * 2
    assert searches.launchers == 2
    assert second["trials"][0] == first["trials"][0]
    assert [trial["place"] for trial in second["trials"]] == [0, 1, 2]
    assert second["best"] == second["trials"][2]
    assert second["examples"] == first["examples"] == {"training": 720, "judging": 240, "last": 240}


@pytest.mark.broker
def test_without_time_nothing_more_begins(log: Log, tmp_path: Path, searches: Searches) -> None:
    log.fill(0, 1_200)
    declared = declare(tmp_path, log)
    shown(tune(declared, "--study", "mine", "--trials", "1"))
    late = shown(tune(declared, "--study", "mine", "--trials", "9", "--timeout", "0"))
    assert len(late["trials"]) == 1
    assert len(searches.examples) == 2


def shown(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.broker
def test_too_little_to_judge_by_is_told(log: Log, tmp_path: Path) -> None:
    log.fill(0, 300)
    result = tune(declare(tmp_path, log))
    assert isinstance(result.exception, TrainingError)
    assert "120 examples of the validation slice are too few" in str(result.exception)


@pytest.mark.broker
def test_a_study_of_another_model_is_not_gone_on_with(log: Log, tmp_path: Path) -> None:
    log.fill(0, 300)
    for rate, error in ((1e-4, TrainingError), (1e-3, ConfigurationError)):
        result = tune(declare(tmp_path, log, rate), "--study", "mine")
        assert isinstance(result.exception, error), result.output


def test_the_best_is_ready_to_paste(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [
        Tried(0, "Model()", 0.5, 8, package="model-0"),
        Tried(1, "Model(batch=128)", 0.4, 8, package="model-1"),
        Tried(2, "Model(batch=256)", None, 2),
    ]
    paired = Paired(0.5, 0.41, Interval(-0.09, -0.12, -0.06))
    comparison = Comparison(0, 900, 1, 2, {"log_loss": paired})
    _print("s", Found(trials, trials[1], comparison, (5000, 900, 900)))
    told = capsys.readouterr().out
    assert "Model() (declared)" in told
    assert "1 given up" in told
    assert "-0.0900 [-0.1200, -0.0600] against the declared model's" in told
    assert told.rstrip().endswith("model=Model(batch=128),")
