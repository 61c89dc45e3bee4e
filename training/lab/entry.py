"""The command line of an exercise where nothing but torch is installed: ``python -m training.lab``.

``kappa lab`` does the same and shows it nicely.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from training.lab.report import Report

CPU_RANKS = 2


@dataclass(frozen=True)
class Entry:
    """What the command line says; ``ranks`` is at least 1."""

    full: bool
    ranks: int
    as_json: bool
    out: Path | None

    def tell(self, report: Report) -> None:
        """Print the figures or the report, and write it where it is wanted."""
        if self.out is not None:
            report.write(self.out)
        print(json.dumps(report.figures) if self.as_json else report.markdown())


def entry(what: str, least_ranks: int = 1) -> Entry:
    """Return what was asked for on the command line."""
    parser = argparse.ArgumentParser(description=what.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="full sizes; so on GPUs anyway")
    parser.add_argument("--small", action="store_true", help="small sizes on GPUs too")
    parser.add_argument("--ranks", type=int, help="how many at most; default: all GPUs, or 2")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--out", type=Path, help="folder for the report and its charts")
    given = parser.parse_args()
    ranks = max(least_ranks, default_ranks(given.ranks))
    wanted = True if given.full else False if given.small else None
    return Entry(is_full(wanted, ranks), ranks, given.json, given.out)


def is_full(wanted: bool | None, ranks: int = 1) -> bool:
    """Return whether full sizes are run: as wanted, or where there is a GPU for each rank."""
    return gpu_count() >= ranks if wanted is None else wanted


def default_ranks(wanted: int | None) -> int:
    """Return how many ranks are run at most: as wanted, or one per GPU, or two on a CPU."""
    return max(1, wanted or gpu_count() or CPU_RANKS)


def gpu_count() -> int:
    """Return how many GPUs torch sees here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
