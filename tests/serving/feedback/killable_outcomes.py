"""A worker process that kills itself at a commit.

Arguments: bootstrap, pipeline, home, the commit's number, and ``open`` to die with its records sent
and the transaction open, or ``after`` it.
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from serving.feedback import worker
from serving.feedback.publishing import Publisher
from serving.inference.stretches import Place
from tests.serving.feedback.feedback_log import pipeline_of


class Dying(Publisher):
    """A publisher whose process dies at a commit."""

    left, how = 0, ""

    def commit(self, positions: Mapping[Place, int], notes: Mapping[Place, str]) -> None:
        """Commit, or die."""
        Dying.left -= 1
        if Dying.left == 0 and Dying.how == "open":
            self._producer.flush(10)
            os.kill(os.getpid(), signal.SIGKILL)
        super().commit(positions, notes)
        if Dying.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    bootstrap, name, home, number, Dying.how = sys.argv[1:]
    Dying.left = int(number)
    worker.COMMIT_RECORDS = 50
    vars(worker)["Publisher"] = Dying
    worker.run_outcomes(bootstrap, pipeline_of(name), Path(home))
