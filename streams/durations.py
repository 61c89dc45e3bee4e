"""Lengths of time as people write them: ``"90s"``, ``"15m"``, ``"24h30m"``, ``"7d"``."""

import re

from streams.errors import DefinitionError

_UNIT_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART = re.compile(r"(\d+)([dhms])")


def seconds(text: str) -> int:
    """Return the length in whole seconds.

    >>> seconds("24h30m")
    88200

    Raises:
        DefinitionError: the text is not a sequence of number and unit (d, h, m, s), or is zero.
    """
    parts = _PART.findall(text)
    total = sum(int(number) * _UNIT_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or total == 0:
        raise DefinitionError(
            f"{text!r} is not a length of time: write a number and a unit (d, h, m or s), "
            'for example "90s", "15m", "24h30m" or "7d"'
        )
    return total
