"""The inference worker of a benchmark's pipeline, with version 0.

python -m benchmarks.hops.answering MODULE:ATTRIBUTE BOOTSTRAP NAME HOME
"""

import sys
from pathlib import Path

from benchmarks.ours import load
from serving.inference.worker import run_inference


def main(spec: str, bootstrap: str, name: str, home: str) -> None:
    """Answer until the process is ended."""
    pipeline = load(spec, name)
    run_inference(
        bootstrap, pipeline.topics, pipeline.definitions, pipeline.events, pipeline.model,
        Path(home), "inference", "w0", labels=pipeline.labels,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
