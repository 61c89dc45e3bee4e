"""A report of an exercise: facts, tables, charts, as Markdown beside its PNG files. No torch."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.errors import ConfigurationError


@dataclass(frozen=True)
class Table:
    """A table of texts, and what it shows."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return it in Markdown; columns after the first are aligned to the right."""
        lines = [
            f"| {' | '.join(self.head)} |",
            f"| --- |{' ---: |' * (len(self.head) - 1)}",
            *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in self.rows),
        ]
        return f"**{self.title}**\n\n" + "\n".join(lines)


@dataclass(frozen=True)
class Chart:
    """A picture: the file's name, what it shows, and what draws it there."""

    file: str
    title: str
    draw: Callable[[Path], None]


@dataclass(frozen=True)
class Report:
    """What an exercise found.

    Args:
        title: what was measured.
        facts: name → text: device, sizes, versions.
        tables: the figures.
        remarks: what they say, a sentence or two each.
        charts: pictures.
        details: tables too long for a screen, in the file alone.
        figures: all numbers, as plain JSON values.
    """

    title: str
    facts: Mapping[str, str]
    tables: Sequence[Table]
    remarks: Sequence[str]
    charts: Sequence[Chart] = ()
    details: Sequence[Table] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """Return the whole report in Markdown."""
        facts = [f"- {name}: {text}" for name, text in self.facts.items()]
        tables = [table.markdown() for table in self.tables]
        charts = [f"![{chart.title}]({chart.file})" for chart in self.charts]
        details = [table.markdown() for table in self.details]
        parts = [f"# {self.title}", "\n".join(facts), *tables, *self.remarks, *charts, *details]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> Path:
        """Write report.md, figures.json and the charts into ``folder``; return report.md's path.

        Raises:
            ConfigurationError: the folder can't be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for chart in self.charts:
                chart.draw(folder / chart.file)
            (folder / "figures.json").write_text(json.dumps(self.figures, indent=2) + "\n")
            path = folder / "report.md"
            path.write_text(self.markdown())
        except OSError as error:
            raise ConfigurationError(f"--out {folder}: the report can't be written: {error}") from (
                error
            )
        return path


def megabytes(nbytes: float) -> str:
    """Return bytes as text, in kB, MB or GB.

    >>> megabytes(25_557_032 * 4)
    '102.2 MB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if nbytes >= size:
            return f"{nbytes / size:,.1f} {unit}"
    return f"{nbytes / 1e3:,.1f} kB"


def milliseconds(seconds: float) -> str:
    """Return a time as text, in microseconds or milliseconds."""
    return f"{seconds * 1e3:,.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:,.3g} µs"
