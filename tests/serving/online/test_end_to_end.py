"""From predictions and labels over the outcomes' own worker to a version that has learned."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from serving.feedback.worker import OutcomesWorker
from serving.online.declared import Online
from streams.kafka_client import producer
from streams.wire import Prediction, Source, Times
from tests.serving.online.online_log import (
    CUTOFF_MS,
    Return,
    base_parts,
    emit_features,
    new_pipeline,
    register_base,
    returned,
    rollout_of,
    sales,
    work_until,
    worker_on,
)

pytestmark = pytest.mark.broker
N = 600


def test_labels_become_a_version(bootstrap: str, tmp_path: Path) -> None:
    pipeline = new_pipeline(bootstrap, Online(batch=16, learning_rate=0.1, publish_every=500))
    register_base(bootstrap, pipeline, tmp_path, base_parts())
    numeric, kinds = sales(N)
    emit_features(bootstrap, pipeline, numeric, kinds)
    topics = pipeline.topics
    client = producer(bootstrap)
    for i, target in enumerate(returned(numeric).tolist()):
        at_ms, shop = CUTOFF_MS + i, f"shop{i % 7}"
        prediction = Prediction(
            f"{topics.features}-0-{i}-v1", f"e0-{i}", shop, 0.5, 1, "live", 1, at_ms, Source(0, i),
            Times(at_ms, at_ms, at_ms),
        )  # fmt: skip
        client.produce(
            topics.predictions, msgspec.json.encode(prediction), shop, 0, timestamp=at_ms
        )
        label = Return(f"e0-{i}", shop, at_ms + 1_000, 2 * target - 1)
        client.produce(topics.labels, msgspec.json.encode(label), shop, 0, timestamp=at_ms + 1_000)
    assert client.flush(30) == 0
    matcher = OutcomesWorker(bootstrap, pipeline, tmp_path)
    try:
        with worker_on(bootstrap, pipeline, tmp_path) as worker:

            def is_published() -> bool:
                matcher.turn()
                return rollout_of(bootstrap, pipeline).live == 2

            work_until(worker, is_published)
    finally:
        matcher.close()
    made = rollout_of(bootstrap, pipeline).versions[2]
    assert made.manifest["online"]["learned"] == 512
    assert made.metrics["brier"] < made.metrics["base_brier"]
    assert np.isfinite(list(made.metrics.values())).all()
