"""Which trained version stands behind one that was learned online."""

from streams.rollout import Rollout
from streams.wire import Registered

MANIFEST_KEY = "online"
"""What the manifest of a version that was learned online has, and no other."""


def is_learned(version: Registered) -> bool:
    """Return whether a version was learned online."""
    return MANIFEST_KEY in version.manifest


def trained_version(rollout: Rollout, version: int) -> Registered | None:
    """Return the version itself if it was trained, else the one that it began from; None where the
    log has none."""
    found = rollout.versions.get(version)
    if found is None or not is_learned(found):
        return found
    return rollout.versions.get(int(found.manifest["parent"]["version"]))
