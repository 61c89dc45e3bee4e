"""Snapshots: whole or not at all, never believed when damaged or of another log."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from streams.errors import ConfigurationError, StateError
from streams.snapshots import Snapshot, SnapshotStore

SNAPSHOT = Snapshot(
    17,
    {
        "sums": np.array([[0.1, np.nan], [-0.0, np.inf]]),
        "entities": np.array([b"ann", b"bob"], dtype="S3"),
        "none": np.empty(0, dtype=np.int64),
    },
    maker="abc",
)


def path_of(store: SnapshotStore, partition: int) -> Path:
    return Path(store.where(partition))


def assert_same(found: Snapshot | None, wanted: Snapshot) -> None:
    assert found is not None
    assert (found.next_offset, found.maker) == (wanted.next_offset, wanted.maker)
    assert {n: (a.dtype, a.tobytes()) for n, a in found.arrays.items()} == {
        n: (a.dtype, a.tobytes()) for n, a in wanted.arrays.items()
    }


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "new" / "folder", "events@1")
    assert store.load(3) is None
    store.save(3, SNAPSHOT)
    assert_same(SnapshotStore(tmp_path / "new" / "folder", "events@1").load(3), SNAPSHOT)
    assert store.load(2) is None


def test_the_newest_takes_the_place_of_the_one_before_and_leaves_no_draft(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, "events@1")
    store.save(0, SNAPSHOT)
    newer = Snapshot(99, {"x": np.arange(3)})
    store.save(0, newer)
    assert_same(store.load(0), newer)
    assert [path.name for path in tmp_path.iterdir()] == [path_of(store, 0).name]


@pytest.mark.parametrize("damage", ["cut", "flip", "head", "empty", "foreign"])
def test_damage_is_noticed_wherever_it_is(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SnapshotStore(tmp_path, "events@1")
    store.save(0, SNAPSHOT)
    content = bytearray(path_of(store, 0).read_bytes())
    middle = len(content) // 2
    content = {
        "cut": content[:middle],
        "flip": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "head": content.replace(b'"next_offset":17', b'"next_offset":18'),
        "empty": bytearray(),
        "foreign": bytearray(b"something else\n"),
    }[damage]
    path_of(store, 0).write_bytes(content)
    assert store.load(0) is None
    out, err = capsys.readouterr()
    assert "rebuilt from the beginning" in out + err


def test_a_snapshot_of_another_log_or_partition_is_not_used(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, "events@1")
    store.save(0, SNAPSHOT)
    assert SnapshotStore(tmp_path, "events@2").load(0) is None
    path_of(store, 0).rename(path_of(store, 1))
    assert store.load(1) is None


def test_objects_are_refused_since_loading_them_would_run_code(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="plain arrays"):
        SnapshotStore(tmp_path, "e@1").save(0, Snapshot(1, {"x": np.array([{}], dtype=object)}))


def test_a_disk_that_refuses_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="can't be written"):
        SnapshotStore(tmp_path / "file", "e@1").save(0, SNAPSHOT)


def memory() -> str:
    return f"memory://{uuid4().hex}/states"


def test_an_address_serves_as_a_folder_does() -> None:
    address = memory()
    store = SnapshotStore(address, "events@1")
    assert store.load(3) is None
    store.save(3, SNAPSHOT)
    assert_same(SnapshotStore(address, "events@1").load(3), SNAPSHOT)
    assert SnapshotStore(address, "events@2").load(3) is None
    newer = Snapshot(99, {"x": np.arange(3)})
    store.save(3, newer)
    assert_same(store.load(3), newer)
    store.discard(3, "for the test")
    assert store.load(3) is None
    store.discard(3, "for the test")


def test_half_a_file_at_an_address_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    address = memory()
    store = SnapshotStore(address, "events@1")
    store.save(0, SNAPSHOT)
    files = fsspec.filesystem("memory")
    name = f"{address.removeprefix('memory:/')}/partition-0.snapshot"
    files.pipe_file(name, files.cat_file(name)[:-40])
    assert store.load(0) is None
    out, err = capsys.readouterr()
    assert "rebuilt from the beginning" in out + err
    assert store.where(0) in out + err


class Unreachable(MemoryFileSystem):  # type: ignore[misc]
    """A store whose client has errors of its own."""

    protocol = "unreachable"

    def cat_file(self, *_: Any, **__: Any) -> bytes:
        raise RuntimeError("no route")

    def pipe_file(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("no route")


def test_a_store_out_of_reach_costs_a_replay_but_refusing_to_write_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    store = SnapshotStore("unreachable://states", "events@1")
    assert store.load(0) is None
    out, err = capsys.readouterr()
    assert "no route" in out + err
    with pytest.raises(StateError, match="no route"):
        store.save(0, SNAPSHOT)


def test_an_address_that_nobody_serves_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="install the package"):
        SnapshotStore("nosuchstore://states", "events@1")
