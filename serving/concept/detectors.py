"""The detectors by name."""

from collections.abc import Callable

from serving.concept.detector import Detector
from serving.concept.of_river import Adwin, PageHinkley
from serving.concept.scan import Scan
from streams.errors import DefinitionError

DETECTORS: dict[str, Callable[[float], Detector]] = {
    "scan": Scan,
    "adwin": Adwin,
    "page_hinkley": PageHinkley,
}
"""Name → made with its false alarms per value."""


def detector_named(name: str, rate: float) -> Detector:
    """Return a new detector; raises DefinitionError where there is none of the name."""
    if name not in DETECTORS:
        raise DefinitionError(
            f"ConceptDrift(detector={name!r}): there is none of that name, take one of "
            f"{', '.join(map(repr, DETECTORS))}"
        )
    return DETECTORS[name](rate)
