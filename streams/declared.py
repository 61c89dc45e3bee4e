"""Where in the user's file something was declared, for errors that name the line."""

import sys
from pathlib import Path
from types import FrameType

_ROOT = Path(__file__).resolve().parents[1]
_OURS = tuple(
    str(_ROOT / package) + "/"
    for package in ("streams", "features", "training", "serving", "infra", "kappa")
)


def declared_at() -> str | None:
    """Return ``file:line`` of the innermost call outside these packages; None where all is ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(("<", *_OURS)):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return None
