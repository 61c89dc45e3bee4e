"""Evidently's drift, on arrays that the benchmark wrote: how long it takes, and what it flags.

    python -m benchmarks.peers.evidently_drift speed FILE
    python -m benchmarks.peers.evidently_drift alarms FILE

FILE is an ``.npz``: ``reference`` (m, F) and ``windows`` (W, n, F), numbers; the last
``categories`` columns are codes of categories. The last line is a JSON object.
"""

import json
import sys
import time
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

PACKAGES = ("evidently", "pandas", "scipy", "numpy")


def main(what: str, file: str) -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    with np.load(file) as arrays:
        reference, windows = arrays["reference"], arrays["windows"]
        categories = int(arrays["categories"])
    found = (
        speed(reference, windows[0]) if what == "speed" else alarms(reference, windows, categories)
    )
    print(json.dumps({**found, "versions": {name: version(name) for name in PACKAGES}}))


def speed(reference: Any, window: Any) -> dict[str, Any]:
    """Return the seconds of a PSI and of a KS report, each the better of two."""
    seconds = {}
    sides = [dataset(values, 0) for values in (reference, window)]
    for method in ("psi", "ks"):
        times = []
        for _ in range(2):
            began = time.perf_counter()
            Report([DataDriftPreset(num_method=method, include_tests=False)]).run(*reversed(sides))
            times.append(time.perf_counter() - began)
        seconds[method] = min(times)
    return seconds


def alarms(reference: Any, windows: Any, categories: int) -> dict[str, Any]:
    """Return, per window, how many columns the preset's defaults call drifted."""
    known = dataset(reference, categories)
    columns = []
    for window in windows:
        ran = Report([DataDriftPreset()]).run(dataset(window, categories), known)
        counts = [
            metric["value"]["count"]
            for metric in ran.dict()["metrics"]
            if metric["metric_name"].startswith("DriftedColumnsCount")
        ]
        columns.append(int(counts[0]))
    return {"columns": columns}


def dataset(values: Any, categories: int) -> Any:
    """Return columns as Evidently takes them, the last ``categories`` as texts."""
    frame = pd.DataFrame(values, columns=[f"f{i}" for i in range(values.shape[1])])
    names = list(frame.columns)
    split = len(names) - categories
    for name in names[split:]:
        frame[name] = frame[name].astype(int).astype(str)
    definition = DataDefinition(numerical_columns=names[:split], categorical_columns=names[split:])
    return Dataset.from_pandas(frame, definition)


if __name__ == "__main__":
    main(*sys.argv[1:])
