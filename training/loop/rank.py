"""One rank of a training run; needs torch and numpy alone. Started by torchrun::

    torchrun --standalone --nproc-per-node 2 -m training.loop.rank FOLDER/job.json

On several machines the folder is shared, and torchrun is given ``--nnodes`` and a rendezvous. Plain
``python -m training.loop.rank FOLDER/job.json`` is a run of one rank. A run that was stopped goes
on from its last checkpoint, with any number of ranks.
"""

import sys
from pathlib import Path

from training.loop.backends import joined
from training.loop.run import Run
from training.loop.run_folder import read_job


def main(job_file: Path) -> None:
    """Run this rank to the end of the job."""
    job = read_job(job_file)
    with joined(job.precision, job.backend) as place:
        Run(job, job_file.parent, place).to_the_end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
