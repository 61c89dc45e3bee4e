"""Who is compared on the published tasks, and what others have published of them."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.detectors.baselines import Contender, Every, OfRiver, Stepd
from benchmarks.detectors.protocol import Score
from serving.concept.of_river import PageHinkley
from serving.concept.scan import Scan

OURS = "scan (ours)"
RATE = 3e-6
"""False alarms per value that ours is set for: what the default of a pipeline with 5,000 labels a
day comes to, 0.1 false alarms a week. It was picked on seeds from 1,000 on."""


def contenders() -> dict[str, Callable[[], Contender]]:
    """Return name → maker of each detector, with its default setting."""
    from river import drift
    from river.drift import binary

    return {
        OURS: lambda: Scan(RATE),
        "ADWIN": lambda: OfRiver(drift.ADWIN),
        "ADWIN, rises": lambda: OfRiver(drift.ADWIN, rises=True),
        "DDM": lambda: OfRiver(binary.DDM, whole=True),
        "EDDM": lambda: OfRiver(binary.EDDM, whole=True),
        "HDDM_A": lambda: OfRiver(binary.HDDMA, whole=True),
        "HDDM_W": lambda: OfRiver(binary.HDDMW, whole=True),
        "STEPD": Stepd,
        "Page-Hinkley": lambda: OfRiver(drift.PageHinkley),
        "Page-Hinkley, by rate": lambda: PageHinkley(RATE),
        "alarm every 1,000": lambda: Every(1_000),
    }


def _published(found: float, false_alarms: float, delay: float) -> Score:
    return Score(found, 4 - found, false_alarms, delay)


PUBLISHED = {
    "STAGGER, sudden": {
        "ADWIN as published": _published(4.0, 0.3, 31.0),
        "DDM as published": _published(4.0, 0.17, 6.0),
        "OPTWIN as published": _published(4.0, 0.4, 0.7),
    },
    "Agrawal, sudden": {
        "ADWIN as published": _published(4.0, 4.2, 229.0),
        "OPTWIN as published": _published(3.7, 0.8, 351.0),
    },
}
"""Of Tosi and Theobald (2024), 30 streams each."""
