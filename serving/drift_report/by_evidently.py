"""The report that evidently makes of the same rows, for those who know it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from serving.drift_report.reading import Rows
from streams.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd


def check_installed() -> None:
    """Raise ConfigurationError where evidently is not installed."""
    try:
        import evidently  # noqa: F401
    except ImportError as missing:
        raise ConfigurationError(
            "--with evidently: evidently is not installed; it is the extra `report`: install "
            "kappa-ml[report]"
        ) from missing


def write_evidently(
    path: Path, reference: Rows, window: Rows, numeric: list[str], categories: list[str]
) -> None:
    """Write evidently's drift report of two sides' rows; ``numeric`` and ``categories`` are the
    names of the columns."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=numeric, categorical_columns=categories)
    sides = [
        Dataset.from_pandas(_frame(rows, numeric, categories), data_definition=definition)
        for rows in (window, reference)
    ]
    Report([DataDriftPreset()]).run(*sides).save_html(str(path))


def _frame(rows: Rows, numeric: list[str], categories: list[str]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows.numeric, columns=numeric)
    for name, column in zip(categories, rows.categories, strict=True):
        frame[name] = pd.Series(column, dtype="str")
    return frame
