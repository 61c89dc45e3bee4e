"""A worker process for the tests to kill.

Arguments: bootstrap, pipeline, whether transactional, and 1,2 where it knows both definitions.
"""

import sys
from pathlib import Path

from serving.inference.worker import run_inference
from streams.topics import Topics
from tests.serving.feature_stream import DEFINITION, EVENTS, PRIOR, V2, load
from training.spec import Model

MAX_BATCH = 50

if __name__ == "__main__":
    bootstrap, pipeline, transactional, *versions = sys.argv[1:]
    definitions = (DEFINITION, V2) if versions == ["1,2"] else (DEFINITION,)
    run_inference(
        bootstrap, Topics(pipeline), definitions, EVENTS, Model(prior=PRIOR), Path(), "inference",
        max_batch=MAX_BATCH, load=load, transactional=transactional == "yes",
    )  # fmt: skip
