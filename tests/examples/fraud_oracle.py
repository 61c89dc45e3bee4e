"""The fraud pipeline's features by pandas, from the files: slow, obvious, and no code of ours.

One payment after another, by its definition: a window of length w with tile u at time t covers the
tiles ⌊t/u⌋ − w/u + 1 to ⌊t/u⌋ of the payments before it; a window over verdicts a week late the
tiles ⌊(t − 7 d)/u⌋ − w/u to ⌊(t − 7 d)/u⌋ − 1 of the times that the verdicts are about.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
WINDOWS = {"1d": (DAY_MS, HOUR_MS), "7d": (7 * DAY_MS, 6 * HOUR_MS), "30d": (30 * DAY_MS, DAY_MS)}
DELAY_MS = 7 * DAY_MS


def payments(folder: Path, months: int | None = None) -> pd.DataFrame:
    """Return the rows of the files in order, with ``t``: milliseconds since the epoch."""
    files = sorted(folder.glob("tx_*.parquet"))[:months]
    rows = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    rows["t"] = rows.TX_DATETIME.to_numpy("datetime64[ms]").astype(np.int64)
    return rows


def customer_features(rows: pd.DataFrame, customer: int) -> pd.DataFrame:
    """Return the features by customer of one customer's payments, indexed by payment id."""
    mine = rows[customer == rows.CUSTOMER_ID]
    times, amounts = mine.t.to_numpy(), mine.TX_AMOUNT.to_numpy()
    made: dict[str, list[float]] = {f"{what}_{w}": [] for w in WINDOWS for what in ("n", "mean")}
    for i, t in enumerate(times):
        for name, (length, tile) in WINDOWS.items():
            inside = _inside(times[:i], t // tile, length, tile)
            made[f"n_{name}"].append(float(inside.sum()))
            made[f"mean_{name}"].append(_mean(amounts[:i][inside]))
    renamed = {
        **{f"n_{w}": f"payments_{w}" for w in WINDOWS},
        **{f"mean_{w}": f"amount_{w}" for w in WINDOWS},
    }
    return pd.DataFrame(made, index=mine.TRANSACTION_ID.astype(str)).rename(columns=renamed)


def terminal_features(rows: pd.DataFrame, terminal: int) -> pd.DataFrame:
    """Return the features by terminal of one terminal's payments, indexed by payment id."""
    mine = rows[terminal == rows.TERMINAL_ID]
    times, frauds = mine.t.to_numpy(), mine.TX_FRAUD.to_numpy()
    made: dict[str, list[float]] = {f"{w}_{n}": [] for n in WINDOWS for w in ("terminal", "risk")}
    for i, t in enumerate(times):
        for name, (length, tile) in WINDOWS.items():
            inside = _inside(times[:i], t // tile, length, tile)
            made[f"terminal_{name}"].append(float(inside.sum()))
            known = _inside(times, (t - DELAY_MS) // tile - 1, length, tile)
            made[f"risk_{name}"].append(_mean(frauds[known].astype(np.float64)))
    return pd.DataFrame(made, index=mine.TRANSACTION_ID.astype(str))


def _inside(times: NDArray[np.int64], newest: int, length: int, tile: int) -> NDArray[np.bool_]:
    tiles = times // tile
    inside: NDArray[np.bool_] = (tiles <= newest) & (tiles > newest - length // tile)
    return inside


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.sum(values) / len(values)) if len(values) else float("nan")
