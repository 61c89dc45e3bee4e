"""A worker process for the tests to kill; arguments: bootstrap, pipeline, transactional."""

import sys
from pathlib import Path

from serving.inference import run_inference
from streams.topics import Topics
from tests.serving.feature_stream import DEFINITION, EVENTS, PRIOR, load
from training.spec import Model

MAX_BATCH = 50

if __name__ == "__main__":
    bootstrap, pipeline, transactional = sys.argv[1:]
    run_inference(
        bootstrap, Topics(pipeline), (DEFINITION,), EVENTS, Model(prior=PRIOR), Path(), "inference",
        max_batch=MAX_BATCH, load=load, transactional=transactional == "yes",
    )  # fmt: skip
