"""The garbage collector in a process that takes many small objects in hand at once."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_YOUNG = 50_000


def spare_what_stays() -> None:
    """Have the collector pass over all objects that there are now, and look at new ones less often.

    Libraries leave some hundred thousand objects that are never garbage, and a batch brings
    thousands that reference counts free: looking through them took half of a worker's time. What
    is garbage now is collected first.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Do so for a while: what the threshold was before, and what stood, comes back at the end."""
    before = gc.get_threshold()
    spare_what_stays()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
