"""Both online stores keep the contract: the newest row by event time, whoever writes it when."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from pydantic import SecretStr

from features.store.columnar import OnlineStore, open_store
from features.store.redis_store import RedisStore
from features.store.sqlite_store import SqliteStore
from streams.errors import ConfigurationError, StateError
from streams.settings import Settings
from tests.features.redis_server import redis_server

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as address:
        yield address


@pytest.fixture(params=["sqlite", "redis"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings that name one store or the other."""
    if request.param == "sqlite":
        return Settings(online_store=None)
    return Settings(online_store=SecretStr(request.getfixturevalue("redis_address")))


@pytest.fixture
def view() -> str:
    return f"project {uuid4().hex[:8]}.features_v1"


def put(
    store: OnlineStore, view: str, *rows: tuple[str, int, str], ttl_ms: int | None = None
) -> int:
    """Write rows of (key, event time, value)."""
    return store.write(
        view,
        [key.encode() for key, _, _ in rows],
        np.array([at for _, at, _ in rows], dtype=np.int64),
        [value.encode() for _, _, value in rows],
        ttl_ms,
    )


def content(store: OnlineStore, view: str, *keys: str) -> list[tuple[int, str] | None]:
    found = store.read(view, [key.encode() for key in keys])
    return [None if row is None else (row[0], row[1].decode()) for row in found]


def test_the_newest_row_by_event_time_stays_and_ties_go_to_the_later_write(
    settings: Settings, view: str, tmp_path: Path
) -> None:
    with contextlib.closing(open_store(tmp_path, settings)) as store:
        store.create(view)
        assert content(store, view, "a") == [None]
        assert put(store, view, ("a", 5, "one"), ("b", -7, "two")) == 2
        assert put(store, view, ("a", 4, "late"), ("b", -7, "tie"), ("c", 1, "three")) == 2
        assert content(store, view, "c", "a", "nobody", "b") == [
            (1, "three"), (5, "one"), None, (-7, "tie"),
        ]  # fmt: skip
        assert put(store, view, ("d", 9, "x"), ("d", 8, "late"), ("d", 9, "y")) == 2
        assert content(store, view, "d") == [(9, "y")]
        assert store.newest_ms(view) == 9
        assert put(store, view) == 0


def test_many_rows_pass_and_views_do_not_mix(settings: Settings, view: str, tmp_path: Path) -> None:
    n = 2_345
    rows = [(f"e{i}", 1_700_000_000_000 + i, f"value {i}") for i in range(n)]
    other = view + "_terminal"
    with contextlib.closing(open_store(tmp_path, settings)) as store:
        assert put(store, view, *rows) == n
        assert put(store, other, ("e1", 1, "of the other view")) == 1
        found = content(store, view, *(key for key, _, _ in rows))
        assert found == [(at, value) for _, at, value in rows]
        store.drop(view)
        assert content(store, view, "e1", "e2344") == [None, None]
        assert store.newest_ms(view) is None
        assert content(store, other, "e1") == [(1, "of the other view")]
        assert put(store, view, ("e1", 3, "again")) == 1


def test_writers_at_once_leave_the_newest_row(
    settings: Settings, view: str, tmp_path: Path
) -> None:
    """Each writer gives every key its times in an order of its own; the greatest must stay."""
    writers, times = 4, 40

    def work(number: int) -> None:
        with contextlib.closing(open_store(tmp_path, settings)) as store:
            for at in np.random.default_rng(number).permutation(times).tolist():
                when = at * writers + number
                put(store, view, *((f"k{i}", when, f"of {when}") for i in range(20)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    last = times * writers - 1
    with contextlib.closing(open_store(tmp_path, settings)) as store:
        assert content(store, view, *(f"k{i}" for i in range(20))) == [(last, f"of {last}")] * 20
        assert store.newest_ms(view) == last


def test_rows_outlive_the_process_that_wrote_them(tmp_path: Path, view: str) -> None:
    """Killed right after the write returned: what a snapshot promises must be in the file."""
    script = (
        "import os, sys, signal, numpy as np; from pathlib import Path\n"
        "from features.store.sqlite_store import SqliteStore\n"
        "SqliteStore(Path(sys.argv[1])).write(sys.argv[2], [b'a'], np.array([3]), [b'kept'])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "online.sqlite3"
    subprocess.run([sys.executable, "-c", script, str(path), view], cwd=ROOT, check=False)
    with contextlib.closing(SqliteStore(path)) as store:
        assert content(store, view, "a") == [(3, "kept")]


def test_redis_forgets_keys_that_are_not_written_again(redis_address: str, view: str) -> None:
    import redis

    with contextlib.closing(RedisStore(redis_address)) as store:
        put(store, view, ("short", 1, "x"), ttl_ms=60_000)
        put(store, view, ("long", 1, "x"))
    with redis.Redis.from_url(redis_address) as client:
        lives = {key: client.pttl(key) for key in client.scan_iter(f"kappa:{view}*")}
    assert {key.rpartition(b":")[2]: 0 < ms <= 60_000 for key, ms in lives.items()} == {
        b"short": True,
        b"long": False,
    }


def test_redis_started_anew_is_written_again(tmp_path: Path, view: str) -> None:
    """A server that lost its scripts (and rows) gets both again."""
    with redis_server(tmp_path) as address, contextlib.closing(RedisStore(address)) as store:
        put(store, view, ("a", 1, "one"))
        store._client.script_flush()
        assert put(store, view, ("a", 2, "two")) == 1
        assert content(store, view, "a") == [(2, "two")]


def test_errors_say_what_to_do_and_no_password(tmp_path: Path) -> None:
    secret = "hunter2"  # noqa: S105
    settings = Settings(online_store=SecretStr(f"redis://me:{secret}@127.0.0.1:1/0"))
    with contextlib.closing(open_store(tmp_path, settings)) as store:
        with pytest.raises(StateError, match="does the server that KAPPA_ONLINE_STORE") as refused:
            store.create("v")
        assert secret not in str(refused.value) + repr(settings)
    with pytest.raises(ConfigurationError, match=r"redis://127\.0\.0\.1:6379/0") as unknown:
        open_store(tmp_path, Settings(online_store=SecretStr(f"mongo://me:{secret}@host")))
    assert secret not in str(unknown.value)
    (tmp_path / "online.sqlite3").write_text("no database at all, and long enough to be one" * 99)
    with (
        contextlib.closing(open_store(tmp_path, Settings(online_store=None))) as broken,
        pytest.raises(StateError, match=r"online\.sqlite3.*may be deleted"),
    ):
        broken.create("v")
