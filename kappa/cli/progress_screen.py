"""How far a long job is, on stderr: a bar on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import Self

LINE_EVERY_S = 5.0


class ProgressScreen:
    """A context manager that shows a job of ``unit`` (``"rows"``), named by ``title``."""

    def __init__(self, title: str, unit: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._console, self._title, self._unit = Console(stderr=True), title, unit
        self._last_line_s = time.monotonic()
        self._bar: Progress | None = None
        if self._console.is_terminal:
            columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
            told = TextColumn("{task.fields[told]}")
            self._bar = Progress(*columns, told, console=self._console, transient=True)
            self._task = self._bar.add_task(title, total=None, told="")

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()

    def update(self, done: int, total: int, told: str) -> None:
        """Show that ``done`` of ``total`` are done, and what else is ``told``."""
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, told=told)
            return
        now_s = time.monotonic()
        if now_s - self._last_line_s >= LINE_EVERY_S:
            self._last_line_s = now_s
            self._console.print(
                f"{self._title}: {done:,} of {total:,} {self._unit}, {told}",
                highlight=False,
                soft_wrap=True,
            )
