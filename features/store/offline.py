"""Feast's offline store over our Parquet files: ``offline_store.type`` names it.

Feast's own file store sorts rows by Dask and keeps the last of each entity, but Dask does not keep
the order between the parts of a frame: with more than one file it answers with older rows (seen
with Feast 0.67 and Dask 2026.8: the oldest row of a card in place of the newest). It also joins
every row of an entity with every moment asked for before it drops all but one, so memory grows with
the product, and leaves out who has no row up to the moment. This one reads only the rows, times and
columns that are asked for, and takes the last row at or before each moment in one pass.

Of rows with the same event time the one that stands later in the files counts: files are named so
that this is the log's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from feast.infra.offline_stores.dask import (
    DaskOfflineStore,
    DaskOfflineStoreConfig,
    DaskRetrievalJob,
)
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.utils import (
    _get_requested_feature_views_to_features_dict,
    _get_requested_on_demand_feature_views,
)

from streams.errors import StateError

_TIME = "__kappa_time"
_ORDER = "__kappa_order"


class KappaFileOfflineStoreConfig(DaskOfflineStoreConfig):  # type: ignore[misc]
    """``offline_store`` with ``type: features.store.offline.KappaFileOfflineStore``."""

    type: Literal["features.store.offline.KappaFileOfflineStore"]


class KappaFileOfflineStore(DaskOfflineStore):  # type: ignore[misc]
    """Point-in-time joins and latest rows of Parquet files; all else is Feast's."""

    supports_filter_by_created_timestamp = False

    @staticmethod
    def get_historical_features(
        config: Any,
        feature_views: Sequence[Any],
        feature_refs: Sequence[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        **options: Any,
    ) -> Any:
        """Return a job for the newest row of each entity up to each moment of ``entity_df``.

        Its rows come back in their order, each with the features asked for: missing where the
        entity has no row up to then, or none within the view's time to live.
        """
        if not isinstance(entity_df, pd.DataFrame):  # all entities: Feast's way
            return DaskOfflineStore.get_historical_features(
                config, feature_views, feature_refs, entity_df, registry, project,
                full_feature_names, **options,
            )  # fmt: skip
        moment = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        on_demand = _get_requested_on_demand_feature_views(feature_refs, project, registry)
        wanted, _ = _get_requested_feature_views_to_features_dict(
            feature_refs, feature_views, on_demand
        )
        moments = pd.to_datetime(entity_df[moment], utc=True)

        def evaluate() -> _Frame:
            frame = entity_df.reset_index(drop=True)
            frame[_TIME] = _nanoseconds(pd.to_datetime(frame[moment], utc=True))
            frame[_ORDER] = range(len(frame))
            frame = frame.sort_values(_TIME, kind="stable")
            for view, features in wanted.items():
                frame = _joined(frame, view, features, str(config.repo_path), full_feature_names)
            return _Frame(frame.sort_values(_ORDER).drop(columns=[_TIME, _ORDER]))

        return DaskRetrievalJob(
            evaluation_function=evaluate,
            full_feature_names=full_feature_names,
            repo_path=str(config.repo_path),
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(
                feature_refs, project, registry
            ),
            metadata=RetrievalMetadata(
                features=list(feature_refs),
                keys=[column for column in entity_df.columns if column != moment],
                min_event_timestamp=moments.min(),
                max_event_timestamp=moments.max(),
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: Any,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> Any:
        """Return a job for the newest row of each entity between two times: what materialize asks.

        A view without an entity, or with a created-timestamp column, is left to Feast.
        """
        if created_timestamp_column or not join_key_columns:
            return DaskOfflineStore.pull_latest_from_table_or_query(
                config, data_source, join_key_columns, feature_name_columns, timestamp_field,
                created_timestamp_column, start_date, end_date,
            )  # fmt: skip

        def evaluate() -> _Frame:
            columns = [*join_key_columns, *feature_name_columns, timestamp_field]
            path = _path(data_source, str(config.repo_path))
            frame = _read(path, columns, timestamp_field, {}, start_date, end_date)
            frame = frame.sort_values(timestamp_field, kind="stable")
            return _Frame(frame.drop_duplicates(join_key_columns, keep="last", ignore_index=True))

        return DaskRetrievalJob(
            evaluation_function=evaluate, full_feature_names=False, repo_path=str(config.repo_path)
        )


class _Frame:
    """A frame of pandas where Feast's job expects one of Dask."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def compute(self) -> pd.DataFrame:
        """Return it."""
        return self._frame

    def persist(self) -> _Frame:
        """It is in memory."""
        return self


def _joined(
    frame: pd.DataFrame, view: Any, features: Sequence[str], repository: str, full_names: bool
) -> pd.DataFrame:
    """Return the frame, ordered by time, with a view's features beside it."""
    source = view.batch_source
    stored = {column: kept for kept, column in (source.field_mapping or {}).items()}
    asked = view.projection.join_key_map  # a view's key → what the frame calls it
    keys = {entity.name: asked.get(entity.name, entity.name) for entity in view.entity_columns}
    read = {stored.get(name, name): name for name in (*keys, *features)}
    among = {stored.get(key, key): frame[name] for key, name in keys.items()}
    path, time = _path(source, repository), source.timestamp_field
    latest = frame[_TIME].max().to_pydatetime() + timedelta(microseconds=1) if len(frame) else None
    rows = _read(path, [*read, time], time, among, None, latest)
    prefix = f"{view.projection.name_to_use()}__" if full_names else ""
    rows = rows.rename(columns={time: _TIME}).rename(columns=read)
    rows = rows.rename(columns={**keys, **{name: prefix + name for name in features}})
    rows[_TIME] = _nanoseconds(rows[_TIME])
    found: pd.DataFrame = pd.merge_asof(
        frame,
        rows.sort_values(_TIME, kind="stable"),
        on=_TIME,
        by=list(keys.values()),
        tolerance=pd.Timedelta(view.ttl) if view.ttl else None,
    )
    return found


def _read(
    path: str,
    columns: Sequence[str],
    time: str,
    among: Mapping[str, pd.Series[Any]],
    first: datetime | None,
    last: datetime | None,
) -> pd.DataFrame:
    """Return rows of Parquet files in the files' order.

    Args:
        path: a file or a folder, on any file system that Arrow knows.
        columns: which; a name given twice is read once.
        time: the column with the event time.
        among: column → values, of which a row must have one.
        first: the earliest time.
        last: the latest time.
    """
    data = ds.dataset(path, format="parquet", partitioning=None)
    if lacking := sorted(set(columns) - set(data.schema.names)):
        raise StateError(
            f"the files in {path} have no column {', '.join(lacking)}: a key that is not the last "
            "one is in the history where the definition names it among its groups"
        )
    kind = data.schema.field(time).type
    conditions = [
        pc.field(column).isin(pa.array(values.unique(), from_pandas=True))
        for column, values in among.items()
    ]
    for limit, compare in ((first, "__ge__"), (last, "__le__")):
        if limit is not None:
            naive = limit if kind.tz or limit.tzinfo is None else limit.replace(tzinfo=None)
            scalar = pa.scalar(naive, pa.timestamp("us", kind.tz))
            conditions.append(getattr(pc.field(time), compare)(scalar))
    condition = None
    for one in conditions:
        condition = one if condition is None else condition & one
    table = data.to_table(columns=list(dict.fromkeys(columns)), filter=condition)
    frame: pd.DataFrame = table.to_pandas()
    frame[time] = pd.to_datetime(frame[time], utc=True)
    return frame


def _path(source: Any, repository: str) -> str:
    path: str = FileSource.get_uri_for_file_path(repository, source.file_options.uri)
    return path


def _nanoseconds(times: pd.Series[Any]) -> pd.Series[Any]:
    return times.astype("datetime64[ns, UTC]")
