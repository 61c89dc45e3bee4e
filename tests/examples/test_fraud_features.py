"""The fraud pipeline's features, built from the log, against pandas on the files themselves.

``KAPPA_FRAUD_MONTHS=6`` takes all 1.75 million payments; two months are enough for every window
and the verdicts' delay.
"""

import os
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest

from examples.fraud import pipeline
from examples.fraud_source import read
from features.records import FeatureCodec
from features.reprocessing.rebuild import RebuildJob, run_rebuild
from streams.files import PARQUET, find_files
from streams.producing import SourceProducer
from streams.replay import offset_bounds, read_ranges
from streams.topics import Topics, ensure_topics
from tests.examples.fraud_oracle import customer_features, payments, terminal_features

MONTHS = int(os.environ.get("KAPPA_FRAUD_MONTHS", "2"))
SAMPLE = 25

pytestmark = [
    pytest.mark.broker,
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_features_are_what_pandas_makes_of_the_files(
    bootstrap: str, shared_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "months"
    folder.mkdir()
    for file in find_files(shared_data / "fraud_handbook", PARQUET)[:MONTHS]:
        (folder / file.name).symlink_to(file.resolve())
    topics = Topics(f"t{uuid4().hex[:8]}", 1)
    keys = pipeline.features.keys(pipeline.events, pipeline.labels)
    ensure_topics(bootstrap, topics.specs(pipeline.events.partitions, keys[1:]))
    producer = SourceProducer(bootstrap, topics)
    for recording in read(folder):
        producer.send(recording)
    producer.flush()
    job = RebuildJob(
        bootstrap, topics, pipeline.features, pipeline.events, tmp_path / "home", pipeline.labels,
        online=False,
    )  # fmt: skip
    report = run_rebuild(job)

    rows = payments(folder)
    assert report.complete
    assert report.rows == len(rows)
    made = built(bootstrap, topics)
    assert sorted(made.index) == sorted(rows.TRANSACTION_ID.astype(str))
    rng = np.random.default_rng(1)
    customers = rng.choice(rows.CUSTOMER_ID.unique(), SAMPLE, replace=False)
    defrauded = rows[rows.TX_FRAUD == 1].TERMINAL_ID.unique()
    terminals = [*rng.choice(rows.TERMINAL_ID.unique(), SAMPLE, replace=False),
                 *rng.choice(defrauded, SAMPLE, replace=False)]  # fmt: skip
    for customer in customers.tolist():
        agree(made, customer_features(rows, customer))
    seen_risk = 0
    for terminal in terminals:
        wanted = terminal_features(rows, int(terminal))
        agree(made, wanted)
        seen_risk += int((wanted.risk_30d > 0).sum())
    assert seen_risk > 100  # or the comparison says nothing about verdicts


def built(bootstrap: str, topics: Topics) -> pd.DataFrame:
    """Return the numeric features in the topic, indexed by payment."""
    codec = FeatureCodec(pipeline.features, pipeline.events, pipeline.labels)
    names, parts = pipeline.features.names("numeric"), []
    bounds = offset_bounds(bootstrap, topics.features, pipeline.events.partitions)
    for batch in read_ranges(bootstrap, topics.features, bounds):
        rows = codec.decode(batch)
        parts.append(pd.DataFrame(rows.numeric, index=rows.event_ids, columns=names))
    return pd.concat(parts)


def agree(made: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """Compare: counts and ratios of counts to the last bit, means of amounts to 1e-12."""
    found = made.loc[wanted.index]
    for name in wanted.columns:
        ours, theirs = found[name].to_numpy(), wanted[name].to_numpy()
        if name.startswith("amount"):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=0, err_msg=name)
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
