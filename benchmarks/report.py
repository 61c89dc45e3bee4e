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
) -> None:
    """Print figures beside their goals (a figure meets its goal at or above it), and the versions.

    With ``as_json`` the last line is one object: figures, goals, goals_met, versions.
    """
    from rich.console import Console
    from rich.table import Table

    versions = _versions(packages)
    caption = ", ".join(f"{name} {number}" for name, number in versions.items())
    table = Table(title=title, caption=caption)
    table.add_column("figure")
    for column in ("value", "goal"):
        table.add_column(column, justify="right")
    for name, value in figures.items():
        goal = goals.get(name)
        met = "" if goal is None else f"≥ {goal:,.0f} {'met' if value >= goal else 'MISSED'}"
        table.add_row(name, f"{value:,.1f}" if value < 1_000 else f"{value:,.0f}", met)
    Console().print(table)
    if as_json:
        summary: dict[str, Any] = {
            "figures": dict(figures),
            "goals": dict(goals),
            "goals_met": all(figures[name] >= goal for name, goal in goals.items()),
            "versions": versions,
        }
        print(json.dumps(summary))


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    machine = {"python": platform.python_version(), "cores": str(os.cpu_count())}
    return machine | {package: version(package) for package in packages}
