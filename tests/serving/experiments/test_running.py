"""An experiment in the log, from its start to its end: what is found, and what overrides it."""

from collections.abc import Iterator

import pytest

from serving.experiments.findings import Findings
from serving.experiments.planning import Wish
from serving.experiments.running import Experiments
from streams.errors import ConfigurationError
from streams.wire import Activated, ExperimentStopped, Routing, StageChanged
from tests.serving.experiments.experiment_log import ExperimentLog

pytestmark = pytest.mark.broker

EVEN = {1: 0.4, 2: 0.4, 3: 0.4}
BETTER = {1: 0.4, 2: 0.55, 3: 0.4}


@pytest.fixture
def log(bootstrap: str) -> ExperimentLog:
    return ExperimentLog.new(bootstrap)


@pytest.fixture
def experiments(log: ExperimentLog) -> Iterator[Experiments]:
    opened = Experiments(log.bootstrap, log.pipeline)
    yield opened
    opened.close()


def start(
    log: ExperimentLog,
    experiments: Experiments,
    metrics: tuple[str, ...] = ("label",),
    treatments: tuple[int, ...] = (2,),
    sigma: float = 0.3,
    effect: float = 0.1,
) -> None:
    wish = Wish(effect, sigma=sigma, treatments=len(treatments), days=0.5)
    plan = experiments.plan(list(metrics), wish)
    experiments.start("colours", list(treatments), plan, None, "a test")
    log.activate()


def found_in(experiments: Experiments) -> Findings:
    return experiments.findings("colours")[2]


def test_a_against_a_is_not_shipped(log: ExperimentLog, experiments: Experiments) -> None:
    start(log, experiments)
    log.answer(400, 1.0, EVEN, seed=3)
    found = found_in(experiments)
    assert found.verdict.kind == "keep"
    assert not found.soundness.mismatch
    assert experiments.deploy("colours", None, force=False)[0] == 1
    stopped = log.rollout().experiments["colours"].stopped
    assert isinstance(stopped, ExperimentStopped)
    assert stopped.evidence is not None
    assert stopped.evidence["verdict"]["kind"] == "keep"
    assert log.rollout().stages[2] == "retired"


def test_lost_entities_override_everything(log: ExperimentLog, experiments: Experiments) -> None:
    start(log, experiments)
    lost = {f"r{n}" for n in range(0, 600, 3)}
    log.answer(600, 1.0, BETTER, seed=4, kept=lambda v, entity, _: v != 2 or entity not in lost)
    found = found_in(experiments)
    assert found.soundness.mismatch
    assert found.soundness.p < 0.001
    assert found.verdict.kind == "invalid"
    assert "sample ratio mismatch" in found.verdict.reason
    for winner in (None, 2):
        with pytest.raises(ConfigurationError, match="--force"):
            experiments.deploy("colours", winner, force=False)
    assert experiments.deploy("colours", 2, force=True)[0] == 2
    assert log.rollout().live == 2


def test_half_of_the_records_of_each_entity_lost_is_seen_too(
    log: ExperimentLog, experiments: Experiments
) -> None:
    start(log, experiments)
    log.answer(400, 1.0, EVEN, seed=5, kept=lambda v, _, number: v != 2 or number % 2 == 0)
    found = found_in(experiments)
    assert not found.soundness.mismatch
    assert found.soundness.per_entity == [6.0, 3.0]
    assert found.soundness.uneven == [2]
    assert found.verdict.kind == "invalid"


def test_before_the_planned_size_nothing_small_is_decided(
    log: ExperimentLog, experiments: Experiments
) -> None:
    start(log, experiments, sigma=2.0)
    log.answer(60, 1.0, EVEN, seed=6)
    assert found_in(experiments).verdict.kind == "undecided"
    with pytest.raises(ConfigurationError, match="Wait for more outcomes"):
        experiments.deploy("colours", None, force=False)
    experiments.stop("colours", "enough")
    with pytest.raises(ConfigurationError, match="ended already: enough"):
        experiments.stop("colours", "again")


def test_several_metrics_of_several_arms(log: ExperimentLog, experiments: Experiments) -> None:
    metrics = ("label.minutes", "brier", "label/ever", "label/event")
    start(log, experiments, metrics, (2, 3), sigma=3.0, effect=1.0)
    log.answer(600, 1.0, {1: 0.4, 2: 0.4, 3: 0.6}, seed=7, per_entity=2)
    found = found_in(experiments)
    assert [(each.metric.text, each.version) for each in found.compared] == [
        (metric, version) for metric in metrics for version in (2, 3)
    ]
    assert found.verdict.winner == 3
    by = {(each.metric.text, each.version): each.plain for each in found.compared}
    minutes = by["label.minutes", 3]
    # A label of 1 stands for 15 minutes more than one of 0.
    events = by["label/event", 3].difference.mean
    assert minutes.difference.mean == pytest.approx(15 * events, abs=0.1)
    assert minutes.holm >= minutes.p
    for found_one in by.values():  # of whatever unit: about as wide, of their own errors
        reach = found_one.sequential.high - found_one.difference.mean
        assert 2.5 < reach / found_one.difference.error < 4.5
    ever = by["label/ever", 3]
    assert ever.chi_squared == pytest.approx(ever.p, rel=2)
    assert by["brier", 2].chi_squared is None
    sizes = [len(moment.effects) for moment in found.course]
    assert sizes == [2] * len(sizes)
    assert found.course[-1].effects[1].difference.mean == pytest.approx(
        found.compared[1].adjusted.difference.mean
    )


def test_only_what_the_experiment_answered_counts(
    log: ExperimentLog, experiments: Experiments
) -> None:
    log.answer(100, 1.0, EVEN, seed=8)
    start(log, experiments)
    log.answer(100, 1.0, BETTER, seed=9)
    experiments.stop("colours", "enough")
    log.activate()
    log.answer(100, 1.0, {1: 0.9}, seed=10)
    _, _, readings = experiments.readings("colours")
    assert readings.outcomes == 600
    assert readings.mismatches == 0
    assert readings.before[0].of(100)[0].sum() == 600
    assert set(readings.arms.tolist()) == {-1, 0}


def test_answers_of_another_model_than_the_entitys_are_told(
    log: ExperimentLog, experiments: Experiments
) -> None:
    start(log, experiments)
    routing = log.rollout().routing(1)
    salted_anew = Routing(routing.live, "another salt", routing.arms)
    log.answer(100, 1.0, BETTER, routing=salted_anew)
    _, _, readings = experiments.readings("colours")
    assert 150 < readings.mismatches < 450, "half of the entities had to be answered by the other"


def test_a_change_that_came_first_is_seen(log: ExperimentLog, experiments: Experiments) -> None:
    """The state is looked at again where the log has gone on since it was read."""
    plan = experiments.plan(["label"], Wish(0.1, sigma=1.0))
    log.append(StageChanged(3, "canary", "quicker", share=0.1, change=1, by="policy"))
    with pytest.raises(ConfigurationError, match="in canary"):
        experiments.start("colours", [2], plan, None, "a test")
    assert log.rollout().experiments == {}


def test_waits_for_workers(log: ExperimentLog, experiments: Experiments) -> None:
    plan = experiments.plan(["label"], Wish(0.1, sigma=1.0))
    experiments.start("colours", [2], plan, None, "a test")
    left: list[list[int]] = []
    assert not experiments.wait("colours", left.append, 0.1)
    routing = log.rollout().routing(1)
    log.append(Activated(1, "live", "w1", {"1": 0}, routing))
    assert not experiments.wait("colours", left.append, 0.5)
    assert (left[0], left[-1]) == ([0, 1], [0])
    log.activate()
    assert experiments.wait("colours", left.append, 10)
