"""How every benchmark tells its figures: a table with the versions, and one JSON object."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any


def report(
    title: str,
    figures: Mapping[str, float],
    goals: Mapping[str, float],
    packages: tuple[str, ...],
    as_json: bool,
    skipped: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> None:
    """Print figures beside their goals (a figure meets its goal at or above it), and the versions.

    With ``as_json`` the last line is one object: figures, goals, goals_met, skipped, versions.

    Args:
        title: above the table.
        figures: name → value.
        goals: name of a figure → the least that is wanted. A goal whose figure is not there is
            shown as not measured, and is not met.
        packages: distributions of this environment whose versions are told.
        as_json: whether the object is printed too.
        skipped: what was not measured → why; shown in the table.
        versions: of what lives elsewhere.
    """
    from rich.console import Console
    from rich.table import Table

    skipped = skipped or {}
    told = _versions(packages) | dict(versions or {})
    caption = ", ".join(f"{name} {number}" for name, number in told.items())
    table = Table(title=title, caption=caption)
    table.add_column("figure", overflow="fold")
    for column in ("value", "goal"):
        table.add_column(column, justify="right")
    for name, value in figures.items():
        goal = goals.get(name)
        met = "" if goal is None else f"≥ {goal:,.9g} {'met' if value >= goal else 'MISSED'}"
        table.add_row(name, _rounded(value), met)
    for name, goal in goals.items():
        if name not in figures:
            table.add_row(name, "not measured", f"≥ {goal:,.9g} MISSED")
    for name, why in skipped.items():
        table.add_row(name, f"skipped: {why}", "")
    console = Console()
    # A pipe is taken to be 80 wide, too little for the names.
    console.width = max(console.width, 120)
    console.print(table)
    if as_json:
        summary: dict[str, Any] = {
            "figures": dict(figures),
            "goals": dict(goals),
            "goals_met": all(figures.get(name, -1.0) >= goal for name, goal in goals.items()),
            "skipped": dict(skipped),
            "versions": told,
        }
        print(json.dumps(summary))


def _rounded(value: float) -> str:
    places = 0 if value >= 1_000 else 1 if value >= 10 else 2
    return f"{value:,.{places}f}"


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    machine = {"python": platform.python_version(), "cores": str(os.cpu_count())}
    return machine | {package: version(package) for package in packages}
