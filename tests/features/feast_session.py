"""What a user of Feast's SDK sees; run as a program, since Feast changes the process it is in.

    python -m tests.features.feast_session FOLDER PROJECT

``KAPPA_ONLINE_STORE`` says which store. Prints one JSON object.
"""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from features.aggregations import Count, Mean
from features.definition import Category, Definition, Number, Ratio
from features.store.registry import open_repository
from features.store.table import OnlineColumns, OnlineTable
from features.store.views import view_of, views_of
from streams.expressions import Value
from streams.settings import Settings
from tests.features.payments import PAYMENTS, START_MS

HOUR_MS = 3_600_000
DEFINITION = Definition(
    7,
    {
        "count_1h": Count("1h", "5m"),
        "mean_1h": Mean(Value("amount"), "1h", "5m"),
        "amount": Number(Value("amount")),
        "channel": Category("channel"),
        "above_mean": Ratio("amount", "mean_1h"),
    },
)
TWO_KEYS = Definition(
    8,
    {
        "count_1h": Count("1h", "5m"),
        "channel_count_1d": Count("1d", "1h", by="channel"),
        "amount": Number(Value("amount")),
        "of_channel": Ratio("count_1h", "channel_count_1d"),
    },
)

OTHER = replace(DEFINITION, version=9)


def main(folder: Path, project: str) -> dict[str, Any]:
    """Write, read, and return what was seen."""
    from feast import FeatureStore

    seen: dict[str, Any] = {}
    # Feast is here anyway; a table would start a process to make its view.
    nine_days_ms = 9 * 24 * HOUR_MS
    other = replace(view_of(OTHER, PAYMENTS, names=["amount"]), ttl_ms=nine_days_ms)
    for definition, views in (
        (DEFINITION, views_of(DEFINITION, PAYMENTS)),
        (TWO_KEYS, views_of(TWO_KEYS, PAYMENTS)),
        (OTHER, [other]),
    ):
        open_repository(folder, project, definition, PAYMENTS, views, Settings())
    cards = OnlineTable(folder, project, DEFINITION, PAYMENTS)
    by_card = OnlineTable(folder, project, TWO_KEYS, PAYMENTS)
    by_channel = OnlineTable(folder, project, TWO_KEYS, PAYMENTS, entity="channel")
    lasting = OnlineTable(folder, project, OTHER, PAYMENTS, names=["amount"], ttl=timedelta(days=9))
    store = FeatureStore(repo_path=str(folder))

    def read(*entities: str, view: str = "features_v7", key: str = "card") -> dict[str, Any]:
        names = [f.name for f in store.get_feature_view(view).features]
        asked = [f"{view}:{name}" for name in names]
        found = store.get_online_features(asked, [{key: entity} for entity in entities]).to_dict()
        return {e: {name: found[name][i] for name in names} for i, e in enumerate(entities)}

    # "old" is past its time to live.
    nan = float("nan")
    first = OnlineColumns(
        ["a", "new", "old"],
        np.array([START_MS, START_MS - HOUR_MS, START_MS - 3 * HOUR_MS]),
        np.array([[2, 5.5, 11.0, 2.0], [0, nan, 7.0, nan], [1, 1, 1, 1.0]]),
        [["web", "", "web"]],
    )
    seen["written"] = cards.write(first)
    seen["cards"] = read("a", "new", "old", "nobody")
    late = OnlineColumns(["a"], np.array([START_MS - 1]), np.full((1, 4), 99.0), [["late"]])
    seen["late"] = cards.write(late)
    seen["after late"] = read("a")["a"]
    # A table is given its own columns alone, or all of the definition's.
    by_card.write(OnlineColumns(["a"], np.array([START_MS]), np.array([[3.0]]), []))
    by_channel.write(OnlineColumns(["web"], np.array([START_MS]), np.array([[7, 40.0, 7, 7]]), []))
    lasting.write(OnlineColumns(["a"], np.array([START_MS]), np.array([[8.0]]), []))
    seen["by card"] = read("a", view="features_v8")
    seen["by channel"] = read("web", view="features_v8_channel", key="channel")
    seen["feast write"] = feast_writes(store, read)
    seen["own view"] = own_view(store, folder, read)
    seen["views"] = {
        view.name: [view.entities, (view.ttl or timedelta(0)).total_seconds()]
        for view in store.list_feature_views()
    }
    return seen


def feast_writes(store: Any, read: Any) -> list[Any]:
    """Write by Feast's own method, once newer and once older than what is there."""
    import pandas as pd

    seen = []
    for amount, at_ms in ((21.0, START_MS + 1), (22.0, START_MS)):
        frame = pd.DataFrame(
            {
                "card": ["a"],
                "event_timestamp": [pd.Timestamp(at_ms, unit="ms", tz="UTC")],
                "count_1h": [3.0],
                "mean_1h": [None],
                "amount": [amount],
                "channel": ["shop"],
                "above_mean": [0.5],
            }
        ).astype({"mean_1h": "float64"})
        store.write_to_online_store("features_v7", df=frame)
        seen.append(read("a")["a"])
    return seen


def own_view(store: Any, folder: Path, read: Any) -> dict[str, Any]:
    """A view that a user adds, of other types: materialized, read, removed, and made again."""
    import pandas as pd
    from feast import FeatureView, Field, FileSource
    from feast.types import Array, Bool, Float64, Int64, String

    at = datetime.fromtimestamp(START_MS / 1000, UTC)
    pd.DataFrame(
        {
            "card": ["a", "a", "b"],
            "event_timestamp": [at, at - timedelta(days=1), at],
            "visits": [7, 6, -5],
            "score": [0.5, 0.4, 0.25],
            "vip": [True, False, False],
            "tags": [["x", "y"], ["old"], ["z"]],
        }
    ).to_parquet(folder / "own.parquet")
    source = FileSource(name="own", path="own.parquet", timestamp_field="event_timestamp")
    kinds = {"visits": Int64, "score": Float64, "vip": Bool, "tags": Array(String)}
    view = FeatureView(
        name="own",
        entities=[store.get_entity("card")],
        schema=[Field(name=name, dtype=kind) for name, kind in kinds.items()],
        source=source,
        ttl=timedelta(days=10),
    )
    store.apply([source, view])
    store.materialize(at - timedelta(days=2), at + timedelta(days=1), feature_views=["own"])
    seen = {"materialized": read("a", "b", view="own")}
    store.apply([], objects_to_delete=[view], partial=False)
    store.apply([source, view])
    return seen | {"made again": read("a", view="own")}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
