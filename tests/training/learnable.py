"""Small made-up data with something to learn, and jobs on it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from training.dataset.encoding import Encoding
from training.dataset.prepared import Examples, PreparedData
from training.dataset.weights import recency_weights
from training.loop.run_folder import RankJob, job_parameters, read_job, write_job
from training.networks.declared import Tabular
from training.networks.shape import Shape

NUMERIC = ("speed", "load")
CATEGORIES = ("site",)


def examples(n: int, seed: int) -> Examples:
    """Return n rows whose label depends on speed (heavy-tailed, at times missing) and site."""
    rng = np.random.default_rng(seed)
    speed = rng.standard_t(2, n)
    load = rng.exponential(50.0, n)
    site = rng.integers(0, 5, n)
    logit = 2 * np.tanh(speed) + 0.8 * (site - 2)
    targets = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    speed[rng.random(n) < 0.05] = np.nan
    times = np.arange(n, dtype=np.int64) * 60_000
    return Examples(np.column_stack([speed, load]), [[f"site {s}" for s in site]], targets, times)


def prepared(n_train: int = 2000, n_validation: int = 500) -> PreparedData:
    """Return the same data each time."""
    return PreparedData(NUMERIC, CATEGORIES, examples(n_train, 1), examples(n_validation, 2))


def write(folder: Path, n_train: int = 2000, **parameters: object) -> RankJob:
    """Write a job into ``folder`` and return it."""
    data = prepared(n_train)
    encoding = Encoding.fit(NUMERIC, CATEGORIES, data.train)
    arrays = {"train_weights": recency_weights(data.train.event_times_ms, None)}
    all_arrays = {
        **arrays,
        **{
            f"{name}_{kind}": array
            for name, part in (("train", data.train), ("validation", data.validation))
            for kind, array in (
                ("numeric", encoding.numeric_inputs(part.numeric)),
                ("codes", encoding.codes(part.categories, len(part))),
                ("targets", part.targets.astype(np.float32)),
            )
        },
    }
    network = Tabular((16,), float(parameters.pop("dropout", 0.0)))  # type: ignore[arg-type]
    job = RankJob(
        digest="", shape=Shape(encoding.numeric_width, encoding.code_counts, network), epochs=4,
        patience=100, batch=64, accumulate=1, learning_rate=5e-3, weight_decay=1e-4, seed=7,
    )  # fmt: skip
    job = replace(job, **parameters)  # type: ignore[arg-type]
    write_job(folder, all_arrays, job_parameters(job))
    return read_job(folder / "job.json")
