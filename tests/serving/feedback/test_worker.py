"""The outcomes worker on a real broker: each prediction with a label has one outcome."""

from contextlib import closing
from pathlib import Path

import pytest

from serving.feedback.account import read_account
from streams.wire import Outcome, Source
from tests.serving.feedback.feedback_log import FeedbackLog, event_ms

pytestmark = pytest.mark.broker


@pytest.fixture
def log(bootstrap: str) -> FeedbackLog:
    """A log of its own."""
    return FeedbackLog.new(bootstrap)


def test_labels_before_and_after_answers_of_several_versions(
    log: FeedbackLog, tmp_path: Path
) -> None:
    """Each version's answer gets its outcome, whichever of the two comes first."""
    log.label(range(5))
    with closing(log.worker(tmp_path)) as worker:
        log.drain(worker)
        log.predict(range(10))
        log.predict(range(10), version=2, stage="shadow")
        log.drain(worker)
        log.label(range(5, 9), partition=1)
        log.drain(worker)
    found = log.outcomes()
    assert sorted((o.event_id, o.model_version) for o in found) == sorted(
        (f"e0-{n}", version) for n in range(9) for version in (1, 2)
    )
    first = next(o for o in found if o.event_id == "e0-4" and o.model_version == 2)
    name = log.pipeline.name
    assert first == Outcome(
        prediction_id=f"{name}.features.v1-0-4-v2",
        event_id="e0-4",
        entity="r1",
        score=0.42,
        label=1.0,
        model_version=2,
        stage="shadow",
        definition=1,
        event_time_ms=event_ms(4),
        label_time_ms=event_ms(4) + 3_600_000,
        label_source=Source(0, 4),
        source=Source(0, 4),
        features_offset=4,
        features_partition=0,
        latency_ms=7,
    )
    account = read_account(log.bootstrap, log.pipeline.topics)
    assert account is not None
    assert (account.counts.matched, account.waiting) == (18, 2)
