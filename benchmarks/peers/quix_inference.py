"""Quix Streams in its exactly-once mode: feature records in, predictions out, by the same model.

    python -m benchmarks.peers.quix_inference BOOTSTRAP TOPIC EVENTS WARM_UP FOLDER

FOLDER holds the ``package``. Set up in its favour: rows become the network's inputs by plain Python
rather than by numpy, which takes longer for one row; the calibration is left out; a transaction may
be as large as ours. Rows come one by one: that is how its operators are called.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from quixstreams import Application

from benchmarks.peers.meter import Meter

COMMIT_EVERY = 10_000
PACKAGES = ("quixstreams", "confluent-kafka", "orjson", "onnxruntime", "numpy")


def main(bootstrap: str, topic: str, events: str, warm_up: str, folder: str) -> None:
    """Run until the meter ends the process."""
    meter = Meter(int(events), int(warm_up), PACKAGES)
    score = scorer(Path(folder) / "package")
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"{topic}.quix-inference",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=COMMIT_EVERY,
        loglevel="ERROR",
    )

    def predicted(record: Any, _key: Any, timestamp: int, _headers: Any) -> Any:
        meter.add()
        source = record["source"]
        return {
            "prediction_id": f"{topic}-{source['partition']}-{source['offset']}-v1",
            "event_id": record["event_id"],
            "entity": record["entity"],
            "score": score(record["features"]),
            "model_version": 1,
            "stage": "live",
            "definition": record["definition"],
            "event_time_ms": record["event_time_ms"],
            "source": source,
            "times": {"event_ms": timestamp, "featurised_ms": None, "predicted_ms": timestamp},
        }

    answers = app.topic(f"{topic}.quix-predictions", value_serializer="json")
    read = app.dataframe(app.topic(topic, value_deserializer="json"))
    read.apply(predicted, metadata=True).to_topic(answers)
    app.run()


def scorer(package: Path) -> Callable[[dict[str, Any]], float]:
    """Return what gives the score of a record's features."""
    encoding = json.loads((package / "encoding.json").read_bytes())
    numeric = [(of["name"], of["center"], of["spread"]) for of in encoding["numeric"]]
    categories = [
        (of["name"], {text: code for code, text in enumerate(of["vocabulary"], start=1)})
        for of in encoding["categories"]
    ]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(package / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )

    def score(features: dict[str, Any]) -> float:
        among, itself, missing = [], [], []
        for name, center, spread in numeric:
            value = features[name]
            if value is None:
                among.append(0.0)
                itself.append(0.0)
                missing.append(1.0)
                continue
            among.append(math.asinh((value - center) / spread))
            itself.append(math.asinh(30.0 * value / spread) / 3)
            missing.append(0.0)
        inputs = np.array([among + itself + missing], np.float32)
        codes = np.array([[of.get(features[name], 0) for name, of in categories]], np.int64)
        (outputs,) = session.run(None, {"numeric": inputs, "codes": codes})
        return 1 / (1 + math.exp(-float(outputs[0, 0])))

    return score


if __name__ == "__main__":
    main(*sys.argv[1:])
