"""Ranks that are killed: the run that goes on is the run that was not killed, step by step."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.learnable import write
from training.loop.digests import digest_file
from training.loop.launch import WarmRanks
from training.loop.rank import main
from training.loop.run_folder import RankResult, read_result
from training.parallel.declared import Parallel

RANKS, STEPS, KILLS = 2, 300, 6
JOB: dict[str, Any] = {
    "n_train": 4000, "batch": 20, "epochs": 3, "dropout": 0.2, "precision": "float16",
    "ema": 0.95, "checkpoint_steps": 7, "digests": True,
}  # fmt: skip


class StopNowError(Exception):
    """Ends a run from outside."""


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmRanks]:
    with WarmRanks(restarts=KILLS) as ranks:
        yield ranks


@pytest.fixture(scope="module")
def undisturbed(warm: WarmRanks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    write(folder, **JOB)
    warm(folder, RANKS, lambda _: None)
    return folder


class Killer(threading.Thread):
    """Kills a rank, another by turns, once it has reached each of ``steps``."""

    def __init__(self, folder: Path, steps: list[int]) -> None:
        super().__init__(daemon=True)
        self._folder, self._steps = folder, steps
        self.killed: list[int] = []
        self.over = threading.Event()

    def run(self) -> None:
        old: set[int] = set()
        for number, step in enumerate(self._steps):
            victim = number % RANKS
            while not self.over.wait(0.001):
                last = last_lines(digest_file(self._folder, victim))
                # After two steps of a rank the other has told of one: both are known by then.
                if len(last) < 2 or last[0]["pid"] != last[1]["pid"]:
                    continue
                if last[1]["pid"] in old or last[1]["steps"] < step:
                    continue
                os.kill(last[1]["pid"], signal.SIGKILL)
                self.killed.append(last[1]["pid"])
                files = [digest_file(self._folder, rank) for rank in range(RANKS)]
                old |= {last_lines(file)[-1]["pid"] for file in files}
                break


def last_lines(file: Path) -> list[dict[str, Any]]:
    """Return the last two lines, of those that are whole."""
    if not file.exists():
        return []
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - 4000))
        lines = opened.read().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line.startswith(b"{")][-2:]


def steps_of(folder: Path, rank: int) -> list[dict[str, Any]]:
    whole = digest_file(folder, rank).read_bytes().split(b"\n")
    return [json.loads(line) for line in whole if line.endswith(b"}")]


def result_of(folder: Path) -> RankResult:
    result = read_result(folder)
    assert result is not None
    return result


def assert_same(a: RankResult, b: RankResult) -> None:
    assert a.history == b.history
    for name, array in a.weights.items():
        assert array.tobytes() == b.weights[name].tobytes(), name
    assert a.validation_outputs.tobytes() == b.validation_outputs.tobytes()


def test_six_kills_change_no_later_step(tmp_path: Path, warm: WarmRanks, undisturbed: Path) -> None:
    write(tmp_path, **JOB)
    steps = sorted(np.random.default_rng(5).choice(np.arange(5, 240), KILLS, replace=False))
    killer = Killer(tmp_path, [int(step) for step in steps])
    killer.start()
    warm(tmp_path, RANKS, lambda _: None)
    killer.over.set()
    assert len(killer.killed) == KILLS
    for rank in range(RANKS):
        told = steps_of(undisturbed, rank)
        whole = {line["steps"]: {**line, "pid": 0} for line in told}
        assert set(told[0]["digests"]) == {"network", "optimizer", "average", "random"}
        assert list(whole) == list(range(1, STEPS + 1))
        resumed = steps_of(tmp_path, rank)
        assert len({line["pid"] for line in resumed}) == KILLS + 1
        assert len(resumed) > STEPS, "no step was done again"
        assert {line["steps"] for line in resumed} == set(whole)
        for line in resumed:
            assert {**line, "pid": 0} == whole[line["steps"]]
    assert_same(result_of(undisturbed), result_of(tmp_path))


@pytest.mark.parametrize("parallel", [Parallel(), Parallel(shard=True)])
def test_the_same_or_other_ranks_go_on_with_the_same_global_batches(
    tmp_path: Path, warm: WarmRanks, parallel: Parallel
) -> None:
    job = {**JOB, "precision": "float32", "dropout": 0.0, "epochs": 2, "parallel": parallel}
    for name in ("stopped", "whole"):
        write(tmp_path / name, **job)

    def check() -> None:
        if len(list((tmp_path / "stopped" / "checkpoints").glob("step-*"))) == 2:
            raise StopNowError

    with pytest.raises(StopNowError):
        warm(tmp_path / "stopped", 2, lambda _: None, check)
    assert steps_of(tmp_path / "stopped", 0)[-1]["steps"] < 200
    shutil.copytree(tmp_path / "stopped", tmp_path / "alone")
    for name in ("stopped", "whole"):
        warm(tmp_path / name, 2, lambda _: None)
    whole = result_of(tmp_path / "whole")
    assert_same(whole, result_of(tmp_path / "stopped"))
    main(tmp_path / "alone" / "job.json")
    alone = result_of(tmp_path / "alone")
    assert alone.ranks == 1
    assert [line["steps"] for line in alone.history] == [100, 200]
    for line, expected in zip(alone.history, whole.history, strict=True):
        assert line == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(alone.validation_outputs, whole.validation_outputs, atol=1e-3)
