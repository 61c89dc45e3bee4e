"""Memory and time per kind of parallelism against values computed by hand."""

import pytest

from training.communication import Machine, NetworkCost, Sizes
from training.layouts import (
    Layout,
    data_parallel,
    expert_parallel,
    layouts,
    pipeline_parallel,
    sharded,
    tensor_parallel,
)

# 1 s of work for 10 examples; a parameter takes 4 s per 4e9 of them on the link.
COST = NetworkCost(
    parameters=1000,
    flops=100.0,
    activation_bytes=80.0,
    blocks=4,
    block_bytes=10.0,
    tensor_reduces=2,
    expert_parameters=600,
    routed_bytes=20.0,
)
MACHINE = Machine(bandwidth=20_000.0, flops=1000.0)
SIZES = Sizes()


def kinds(rows: list[Layout]) -> list[str]:
    return [row.kind for row in rows]


def test_data_parallel_holds_all_and_reduces_all() -> None:
    row = data_parallel(COST, MACHINE, 10, 4, SIZES)
    assert row.communication_s == pytest.approx(1.5 * 4000 / 20_000)  # 0.3 s
    assert row.speed_up == pytest.approx(4 / 1.3)
    assert row.lesson == pytest.approx(4 / (1 + 2 * 4000 / 20_000))
    assert row.bound == pytest.approx(4.0)  # .3 s hide behind 2/3 s
    assert (row.memory.parameters, row.memory.optimizer) == (4000, 8000)
    assert row.memory.total == 16_000 + 800


def test_shards_hold_a_share_and_one_block_and_move_half_as_much_again() -> None:
    row = sharded(COST, MACHINE, 10, 4, SIZES)
    assert row.communication_s == pytest.approx(0.45)
    assert row.memory.optimizer == 2000
    assert row.memory.parameters == 4 * (250 + 250)


def test_tensor_parallel_reduces_each_blocks_output_twice_each_way() -> None:
    row = tensor_parallel(COST, MACHINE, 10, 2, SIZES)
    assert row.communication_s == pytest.approx(16 * 100 / 20_000)
    assert row.step_s == pytest.approx(0.5 + 0.08)
    assert row.memory.activations == 10 * (40 + 40 / 2)
    assert row.memory.total == 8000 + 600


def test_a_pipeline_waits_for_its_bubble_and_keeps_few_micro_batches() -> None:
    row = pipeline_parallel(COST, MACHINE, 10, 2, SIZES, 5)
    assert row.idle == pytest.approx(1 / 6)
    assert row.bound == pytest.approx(1 / (0.5 * 6 / 5))
    assert row.communication_s == pytest.approx(2 * 5 * (2 * 10 / 20_000))
    assert row.memory.activations == pytest.approx(2 / 5 * 800 / 2)
    assert row.memory.parameters == 2000


def test_experts_are_dealt_out_and_the_rest_is_reduced() -> None:
    row = expert_parallel(COST, MACHINE, 10, 2, SIZES)
    assert row.memory.parameters == 4 * (400 + 300)
    assert row.communication_s == pytest.approx(1600 / 20_000 + 4 * 0.5 * 200 / 20_000)


def test_only_what_the_network_allows_is_shown() -> None:
    assert kinds(layouts(COST, MACHINE, 10, 1)) == ["DP"]
    assert kinds(layouts(COST, MACHINE, 10, 4)) == ["DP", "FSDP", "TP", "PP", "EP"]
    assert kinds(layouts(COST, MACHINE, 10, 8)) == ["DP", "FSDP", "TP", "EP"]  # 4 blocks
    plain = NetworkCost(parameters=10, flops=1.0)
    assert kinds(layouts(plain, MACHINE, 10, 2)) == ["DP", "FSDP"]


def test_one_rank_is_no_quicker_than_itself() -> None:
    (row,) = layouts(COST, MACHINE, 10, 1)
    assert (row.speed_up, row.lesson, row.bound, row.communication_s) == (1, 1, 1, 0)
