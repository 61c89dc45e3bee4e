"""A worker process for the tests to kill, whose model sees an entity's last events.

Arguments: bootstrap, pipeline, home.
"""

import sys
from pathlib import Path

from serving.inference.worker import run_inference
from streams.topics import Topics
from tests.serving.feature_stream import DEFINITION, EVENTS, PRIOR
from tests.serving.history_stream import load
from training.spec import Model

MAX_BATCH = 50

if __name__ == "__main__":
    bootstrap, pipeline, home = sys.argv[1:]
    run_inference(
        bootstrap, Topics(pipeline), (DEFINITION,), EVENTS, Model(prior=PRIOR), Path(home),
        "inference", max_batch=MAX_BATCH, load=load,
    )  # fmt: skip
