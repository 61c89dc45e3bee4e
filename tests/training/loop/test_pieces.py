"""Which part of a tensor a rank of a mesh holds; the ranks are played one after another."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.placement_types import Placement, _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

from training.loop.pieces import Box, layout_of, local, overlap, whole


def held(shape: tuple[int, ...], placements: list[Placement], rank: int) -> list[Box]:
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=4)
    try:
        mesh = init_device_mesh("cpu", (2, 2))
        tensor = DTensor.from_local(torch.zeros(1), mesh, placements, run_check=False,
                                    shape=torch.Size(shape), stride=(shape[1], 1))  # fmt: skip
        layout = layout_of(tensor)
        assert layout.shape == shape
        return list(layout.boxes)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("placements", [
    [Shard(0), Shard(1)],
    [Shard(0), Shard(0)],
    [_StridedShard(0, split_factor=2), Shard(0)],
    [Shard(1), _StridedShard(0, split_factor=2)],
])  # fmt: skip
def test_the_ranks_hold_each_number_once(placements: list[Placement]) -> None:
    for shape in ((8, 4), (7, 5), (3, 3), (1, 2)):
        count = torch.zeros(shape, dtype=torch.int64)
        for rank in range(4):
            for box in held(shape, placements, rank):
                box_in_whole = Box(box.offsets, box.offsets, box.sizes)
                box_in_whole.of(count).add_(1)
        assert (count == 1).all(), (shape, placements)


def test_replicas_hold_the_same() -> None:
    boxes = [held((6, 2), [Replicate(), Shard(0)], rank) for rank in range(4)]
    assert boxes[0] == boxes[2] == [Box((0, 0), (0, 0), (3, 2))]
    assert boxes[1] == boxes[3] == [Box((3, 0), (0, 0), (3, 2))]


def test_a_plain_tensor_is_held_whole() -> None:
    tensor = torch.zeros(3, 2)
    assert layout_of(tensor).boxes == (Box((0, 0), (0, 0), (3, 2)),)
    assert layout_of(torch.tensor(1.0)).boxes == (whole(()),)
    assert local(tensor) is tensor


def test_boxes_share_a_box_or_nothing() -> None:
    a, b = Box((0, 2), (0, 0), (4, 4)), Box((2, 0), (1, 1), (4, 3))
    assert overlap(a, b) == (Box((2, 2), (2, 0), (2, 1)), Box((2, 2), (1, 3), (2, 1)))
    assert overlap(a, Box((4, 2), (0, 0), (1, 1))) is None
    assert overlap(whole(()), whole(())) == (whole(()), whole(()))
