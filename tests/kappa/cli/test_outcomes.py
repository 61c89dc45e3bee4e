"""How outcomes are shown to people."""

from zoneinfo import ZoneInfo

from rich.console import Console

from kappa.cli.outcomes import account_lines, outcomes_table
from serving.feedback.account import Account
from serving.feedback.joining import Counts
from streams.wire import Outcome, Source

HOUR = 3_600_000
OUTCOME = Outcome(
    "p", "e1", "x", 0.73125, 1.0, 3, "canary", 1, 0, 30 * HOUR, Source(0, 0), Source(0, 0)
)


def test_an_outcome_says_after_how_long_the_label_came() -> None:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(outcomes_table([OUTCOME], "Outcomes", ZoneInfo("UTC")))
    cells = [cell.strip() for cell in captured.get().split("│")]
    shown = ["1970-01-02 06:00:00", "1.2 d", "e1", "x", "0.7312", "1", "v3", "canary"]
    assert cells[1:9] == shown


def test_the_counts_are_told() -> None:
    counts = Counts(answers=10, labels=9, matched=6, unlabelled=2, late=1, unknown=1)
    lines = account_lines(Account(counts, waiting=2, events=12, nbytes=2_500_000))
    assert lines[0] == (
        "10 predictions: 6 with their label (75.0% of those whose time is over), 2 waiting, "
        "2 without one in time"
    )
    assert "1 too late, 1 of events that nobody answered" in lines[1]
    assert lines[2] == "12 event ids remembered, 2.5 MB"
    assert "no outcomes worker" in account_lines(None)[0]
