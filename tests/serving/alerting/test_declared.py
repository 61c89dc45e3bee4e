"""What a pipeline file may say of its alerts."""

from typing import Any

import pytest

from serving.alerting.declared import Alerting
from streams.errors import DefinitionError


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ({"false_alarms_per_week": 0.0}, "false_alarms_per_week=0.0"),
        ({"false_alarms_per_week": float("nan")}, "false_alarms_per_week=nan"),
        ({"confirm": (3, 2)}, r"confirm=\(3, 2\)"),
        ({"confirm": (0, 2)}, r"confirm=\(0, 2\)"),
        ({"resolve": 0.0}, "resolve=0.0"),
        ({"resolve": 1.1}, "resolve=1.1"),
        ({"dashboard": "kappa.example.org"}, "dashboard='kappa.example.org'"),
    ],
    ids=["never", "nan", "more than there are", "none", "resolve 0", "resolve 1.1", "no address"],
)
def test_what_cannot_be_meant_is_refused_by_name(declared: dict[str, Any], why: str) -> None:
    with pytest.raises(DefinitionError, match=why):
        Alerting(**declared)


def test_the_bounds_themselves_may_be_meant() -> None:
    Alerting(confirm=(1, 1), resolve=1.0, dashboard="http://127.0.0.1:8790")
