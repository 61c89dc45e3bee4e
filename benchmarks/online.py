"""How many rows a second reach Feast's online stores, and how long a read takes: Feast's and ours.

    uv run python benchmarks/online.py [--rows N] [--rounds N] [--json]

Rows of 10 doubles for 1,000 entities, a batch at a time, every batch newer than the one before
(Feast's Redis store leaves out rows that are not). In the same run and on the same disk: Feast's
own SQLite and Redis stores by ``write_to_online_store`` and by ``online_write_batch`` with values
built beforehand; ours by ``write_columns`` (what the feature worker calls, encoding included) and
by ``write_to_online_store``; and the bare stores, which take the same bytes with nothing compared.
All write one batch after another, and the time is the clock's. Redis is a server of its own on the
loopback, without persistence; where no ``redis-server`` is on the PATH its figures are left out.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.report import report  # noqa: E402
from features.store.columnar import OnlineStore  # noqa: E402
from features.store.rows import RowLayout, entity_keys  # noqa: E402
from features.store.views import stored_name  # noqa: E402
from infra.ports import free_ports  # noqa: E402

FEATURES = [f"f{i}" for i in range(10)]
START_MS = 1_700_000_000_000
PROJECT, VIEW, KEY = "bench", "ten", "card"
WARM_UP = 2  # batches
GOAL_TIMES_FEAST = 3.0
PACKAGES = ("feast", "protobuf", "numpy", "pandas", "redis", "hiredis")


def main() -> None:
    """Measure, print a table, and with --json one object on the last line."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000, help="of a batch")
    parser.add_argument("--rounds", type=int, default=30, help="batches of each way to write")
    parser.add_argument("--reads", type=int, default=300)
    parser.add_argument("--folder", help="where SQLite's files lie for the run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, float] = {"rows": options.rows, "values_per_row": len(FEATURES)}
    goals: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, server(Path(folder)) as port:
        versions = {"sqlite": sqlite3.sqlite_version} | redis_version(port)
        os.environ["KAPPA_ONLINE_STORE"] = f"redis://127.0.0.1:{port}/0"
        for kind in ("sqlite", *(["redis"] if port else [])):
            measured = measure(kind, port, Path(folder), options)
            figures |= {f"{kind}_{name}": value for name, value in measured.items()}
            goals[f"{kind}_times_feast"] = GOAL_TIMES_FEAST
    skipped = {} if port else {"redis": "no redis-server on the PATH (Debian: apt-get install it)"}
    title = "Online store: rows per second, reads in µs"
    report(title, figures, goals, PACKAGES, options.json, skipped, versions)


def measure(
    kind: str, port: int | None, folder: Path, options: argparse.Namespace
) -> dict[str, float]:
    """Return the figures of one kind of store: rows per second, and microseconds of a read."""
    rows, rounds, reads = options.rows, options.rounds, options.reads
    feast_online = (
        "type: sqlite\n  path: feast.db"
        if kind == "sqlite"
        else f"type: redis\n  connection_string: 127.0.0.1:{port},db=1"
    )
    peer = feature_store(folder / f"feast-{kind}", feast_online)
    ours = feature_store(
        folder / f"ours-{kind}", f"type: features.store.stores.Kappa{kind.title()}OnlineStore"
    )
    online = ours._get_provider().online_store
    gc.collect()
    gc.freeze()

    batches = Batches(rows)
    peer_rate = rate(batches.frames(rounds), lambda b: peer.write_to_online_store(VIEW, df=b), rows)
    figures = {"feast_write_to_online_store": peer_rate}
    provider, table = peer._get_provider(), peer.get_feature_view(VIEW)
    figures["feast_prebuilt_protos"] = rate(
        batches.protos(rounds),
        lambda b: provider.online_write_batch(peer.config, table, b, None),
        rows,
    )
    figures["ours_by_write_to_online_store"] = rate(
        batches.frames(rounds), lambda b: ours.write_to_online_store(VIEW, df=b), rows
    )
    own_table = ours.get_feature_view(VIEW)
    figures["ours_write_columns"] = rate(
        batches.columns(rounds),
        lambda b: check(online.write_columns(ours.config, own_table, *b), rows),
        rows,
    )
    figures["raw_floor"] = rate(batches.raw(rounds), raw_writer(kind, port, folder), rows)
    figures["times_feast"] = round(figures["ours_write_columns"] / peer_rate, 1)

    kept = online.opened(ours.config)
    for n in (1, 100):
        entities = batches.entities[:n]
        times = reads // n + 10
        figures[f"feast_get_online_features_{n}_us"] = mean_us(partial(ask, peer, entities), times)
        figures[f"ours_get_online_features_{n}_us"] = mean_us(partial(ask, ours, entities), times)
        figures[f"ours_without_feast_{n}_us"] = mean_us(partial(bare_read, kept, entities), times)
    kept.close()
    return figures


class Batches:
    """Batches of one set of entities in the forms that the ways to write take, ever newer."""

    def __init__(self, rows: int) -> None:
        self._rng = np.random.default_rng(7)
        self._now_ms = START_MS
        self.entities = [f"c{i:05d}" for i in range(rows)]

    def columns(self, rounds: int) -> Iterator[tuple[Any, ...]]:
        """Yield (entities, event times, numbers)."""
        for _ in range(rounds + WARM_UP):
            self._now_ms += 1_000
            numbers = self._rng.exponential(40, (len(self.entities), len(FEATURES)))
            yield self.entities, np.full(len(self.entities), self._now_ms), numbers

    def frames(self, rounds: int) -> Iterator[Any]:
        """Yield frames of pandas."""
        import pandas as pd

        for entities, times_ms, numbers in self.columns(rounds):
            frame = pd.DataFrame(numbers, columns=FEATURES)
            frame[KEY] = entities
            frame["event_timestamp"] = pd.to_datetime(times_ms, unit="ms", utc=True)
            yield frame

    def protos(self, rounds: int) -> Iterator[list[Any]]:
        """Yield what ``online_write_batch`` takes."""
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        for entities, times_ms, numbers in self.columns(rounds):
            at = datetime.fromtimestamp(int(times_ms[0]) / 1000, UTC)
            yield [
                (
                    EntityKey(join_keys=[KEY], entity_values=[Value(string_val=entity)]),
                    {f: Value(double_val=v) for f, v in zip(FEATURES, values, strict=True)},
                    at,
                    None,
                )
                for entity, values in zip(entities, numbers.tolist(), strict=True)
            ]

    def raw(self, rounds: int) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Yield keys and values as the store itself takes them."""
        layout = RowLayout(tuple(FEATURES))
        for entities, _, numbers in self.columns(rounds):
            yield entity_keys(KEY, entities), layout.encode(numbers, [])


def feature_store(folder: Path, online: str) -> Any:
    """Return a Feast store in ``folder`` with one view of ten doubles, applied."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource
    from feast.types import Float64, String
    from feast.value_type import ValueType

    folder.mkdir()
    (folder / "feature_store.yaml").write_text(
        f"project: {PROJECT}\nprovider: local\nregistry: registry.db\nonline_store:\n  {online}\n"
        "offline_store:\n  type: file\nentity_key_serialization_version: 3\n"
    )
    store = FeatureStore(repo_path=str(folder))
    entity = Entity(name=KEY, join_keys=[KEY], value_type=ValueType.STRING)
    source = FileSource(name="history", path="history", timestamp_field="event_timestamp")
    fields = [Field(name=KEY, dtype=String), *(Field(name=f, dtype=Float64) for f in FEATURES)]
    view = FeatureView(name=VIEW, entities=[entity], schema=fields, source=source, ttl=timedelta(0))
    store.apply([entity, source, view])
    return store


def rate(batches: Iterator[Any], write: Callable[[Any], object], rows: int) -> float:
    """Return the rows per second of writing batches; making them is not counted."""
    spent_s = []
    for batch in batches:
        started_s = time.perf_counter()
        write(batch)
        spent_s.append(time.perf_counter() - started_s)
    counted = spent_s[WARM_UP:]
    return round(rows * len(counted) / sum(counted))


def mean_us(action: Callable[[], object], times: int) -> float:
    """Return the mean time of an action in microseconds."""
    action()
    started_s = time.perf_counter()
    for _ in range(times):
        action()
    return round((time.perf_counter() - started_s) / times * 1e6, 1)


def ask(store: Any, entities: list[str]) -> None:
    """Read by Feast's SDK."""
    names = [f"{VIEW}:{feature}" for feature in FEATURES]
    found = store.get_online_features(names, [{KEY: entity} for entity in entities]).to_dict()
    check(len(found[FEATURES[-1]]) - found[FEATURES[-1]].count(None), len(entities))


def bare_read(store: OnlineStore, entities: list[str]) -> None:
    """Read as our reader does, without Feast."""
    layout = RowLayout(tuple(FEATURES))
    for found in store.read(stored_name(PROJECT, VIEW), entity_keys(KEY, entities)):
        check(len((layout.decode(found[1]) if found else None) or {}), len(FEATURES))


def check(found: int, expected: int) -> None:
    """End the run where a write or a read did less than it should: that would measure nothing."""
    if found != expected:
        raise SystemExit(f"{found} where {expected} were expected")


def raw_writer(
    kind: str, port: int | None, folder: Path
) -> Callable[[tuple[list[bytes], list[bytes]]], None]:
    """Return what puts keys and values into the bare store."""
    if kind == "redis":
        import redis

        client = redis.Redis(port=port or 0, db=2)

        def put(batch: tuple[list[bytes], list[bytes]]) -> None:
            client.mset(dict(zip(*batch, strict=True)))

        return put
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE raw (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")

    def replace(batch: tuple[list[bytes], list[bytes]]) -> None:
        connection.execute("BEGIN")
        connection.executemany("REPLACE INTO raw VALUES (?, ?)", zip(*batch, strict=True))
        connection.execute("COMMIT")

    return replace


@contextmanager
def server(folder: Path) -> Iterator[int | None]:
    """Run a Redis server without persistence; yield its port, None where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    (port,) = free_ports(1)
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly"]
    process = subprocess.Popen([*command, "no"], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def redis_version(port: int | None) -> dict[str, str]:
    """Wait until the server answers; return its version."""
    if port is None:
        return {}
    import redis

    until_s = time.monotonic() + 20
    with redis.Redis(port=port) as client:
        while True:
            try:
                return {"redis-server": str(client.info("server")["redis_version"])}
            except redis.ConnectionError:
                if time.monotonic() > until_s:
                    raise SystemExit("redis-server does not answer") from None
                time.sleep(0.02)


if __name__ == "__main__":
    main()
