"""Compiling the loops that must run one event after another in log order."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(loop: Loop) -> Loop:
    """Compile a loop to machine code, kept on disk so that the next process starts quickly.

    Without the interpreter's lock and without fast-math: the order of every floating-point
    operation stays as written, so the same log gives the same bits. A kernel calls only functions
    of its own file, because the cache on disk notices changes of that file alone.
    """
    return _compile(loop, fastmath=False)


def compiled_count(loop: Loop) -> Loop:
    """Compile a loop that adds whole numbers below 2⁵³: exact in any order, so quicker."""
    return _compile(loop, fastmath={"reassoc"})


def _compile(loop: Loop, fastmath: bool | set[str]) -> Loop:
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        made = numba.njit(cache=True, **options)(loop)
    except RuntimeError:  # no folder to keep it in can be written: compile in each process
        made = numba.njit(**options)(loop)
    return cast(Loop, made)
