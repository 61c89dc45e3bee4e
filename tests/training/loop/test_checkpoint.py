"""Checkpoints of one rank in this process, and pieces read by other ranks than wrote them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from streams.errors import TrainingError
from tests.training.learnable import write
from training.loop.checkpoint_files import DamagedError, Piece, Stored, write_pieces
from training.loop.pieces import Box, Layout
from training.loop.rank import main
from training.loop.run_folder import RankResult, read_result

JOB = {"batch": 100, "epochs": 3, "dropout": 0.1, "ema": 0.9, "checkpoint_steps": 9}


def result_of(folder: Path) -> RankResult:
    result = read_result(folder)
    assert result is not None
    return result


def assert_same(a: RankResult, b: RankResult) -> None:
    assert a.history == b.history
    for name, array in a.weights.items():
        assert array.tobytes() == b.weights[name].tobytes(), name


def stored_steps(folder: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("complete")
    write(folder, **JOB)  # type: ignore[arg-type]
    main(folder / "job.json")
    return folder


def flip(folder: Path) -> None:
    content = bytearray((folder / "rank-00000.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "rank-00000.bin").write_bytes(content)


def tear(folder: Path) -> None:
    content = (folder / "rank-00000.json").read_bytes()
    (folder / "rank-00000.json").write_bytes(content[: len(content) // 2])


def lose(folder: Path) -> None:
    (folder / "rank-00000.bin").unlink()


def test_the_last_two_are_kept(complete: Path) -> None:
    assert stored_steps(complete) == [54, 60]  # of 9, 18, 20, 27, 36, 40, 45, 54, 60


@pytest.mark.parametrize("damage", [flip, tear, lose])
def test_a_damaged_checkpoint_costs_a_warning_and_the_one_before_is_taken(
    tmp_path: Path,
    complete: Path,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(complete, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    (tmp_path / "run" / "checkpoints" / ".saving-step-000000063").mkdir()
    damage(tmp_path / "run" / "checkpoints" / "step-000000060")
    main(tmp_path / "run" / "job.json")
    assert "step-000000060 is damaged" in caplog.text
    assert "going on from the one before it" in caplog.text
    assert stored_steps(tmp_path / "run") == [54, 60]
    assert not list((tmp_path / "run" / "checkpoints").glob(".saving-*"))
    assert_same(result_of(complete), result_of(tmp_path / "run"))


def test_without_a_whole_checkpoint_the_run_begins_anew(tmp_path: Path, complete: Path) -> None:
    shutil.copytree(complete, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    for folder in (tmp_path / "run" / "checkpoints").glob("step-*"):
        flip(folder)
    main(tmp_path / "run" / "job.json")
    assert_same(result_of(complete), result_of(tmp_path / "run"))


def test_writing_while_training_goes_on_changes_nothing(tmp_path: Path, complete: Path) -> None:
    for name, how in (("each", {"checkpoint_steps": 1}), ("none", {"checkpoint_steps": None})):
        write(tmp_path / name, **{**JOB, "checkpoint_s": 0.0, **how})  # type: ignore[arg-type]
        main(tmp_path / name / "job.json")
        assert_same(result_of(complete), result_of(tmp_path / name))


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    write(tmp_path, **JOB)  # type: ignore[arg-type]
    (tmp_path / "checkpoints").write_text("a file where a folder should be")
    with pytest.raises(TrainingError, match=r"can't be written into .*checkpoints"):
        main(tmp_path / "job.json")


def piece(whole: torch.Tensor, offsets: tuple[int, int], sizes: tuple[int, int]) -> Piece:
    part = whole[offsets[0] : offsets[0] + sizes[0], offsets[1] : offsets[1] + sizes[1]]
    return Piece("network", "w", tuple(whole.shape), offsets, part.contiguous())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_pieces_by_rows_are_read_by_columns(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = torch.arange(7 * 5).reshape(7, 5).to(dtype)
    about = {"digest": "d", "ranks": 3, "run": {}, "own": {}}
    cuts = [(0, 3), (3, 3), (6, 1)]
    for rank, (first, rows) in enumerate(cuts):
        odd = Piece("other", str(rank), (3,), (0,), torch.zeros(3, dtype=torch.uint8))
        pieces = [odd, piece(whole, (first, 0), (rows, 5))]
        write_pieces(tmp_path / f"rank-{rank:05d}", pieces, about)
    stored = Stored(tmp_path)
    stored.verify(range(3))
    assert stored.kind("network", "w") == ((7, 5), dtype)
    # This rank holds two stretches of columns, side by side.
    boxes = (Box((0, 1), (0, 0), (7, 1)), Box((0, 3), (0, 1), (7, 2)))
    part = torch.zeros(7, 3, dtype=dtype)
    stored.fill("network", "w", part, Layout((7, 5), boxes))
    assert torch.equal(part, whole[:, [1, 3, 4]])
    with pytest.raises(TrainingError, match=r"0 of 40 numbers of network of 'w' \[8, 5\]"):
        stored.fill(
            "network", "w", torch.zeros(8, 5), Layout((8, 5), (Box((0, 0), (0, 0), (8, 5)),))
        )


def test_a_missing_piece_is_found(tmp_path: Path) -> None:
    whole = torch.ones(4, 2)
    about = {"digest": "d", "ranks": 1, "run": {}, "own": {}}
    write_pieces(tmp_path / "rank-00000", [piece(whole, (0, 0), (3, 2))], about)
    with pytest.raises(TrainingError, match="6 of 8 numbers"):
        Stored(tmp_path).fill("network", "w", whole, Layout((4, 2), (Box((0, 0), (0, 0), (4, 2)),)))
    index = json.loads((tmp_path / "rank-00000.json").read_bytes().partition(b"\n")[2])
    assert index["tensors"][0]["at"] % 64 == 0
    (tmp_path / "rank-00000.json").unlink()
    with pytest.raises(DamagedError, match=r"rank-00000\.json"):
        Stored(tmp_path)
