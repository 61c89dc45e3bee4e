"""The communication model against values computed by hand."""

import pytest

from streams.errors import ConfigurationError
from training.communication import (
    Machine,
    NetworkCost,
    all_reduce_s,
    bandwidth,
    batch_for,
    bubble,
    compute_s,
    exchange_s,
    gather_s,
    lesson_ratio,
    operations,
    overlapped_s,
    speed_up,
)

# ResNet-50, 25 GB/s, 100 TFLOPS attained: 25.557 M parameters, 3 · 2 · 4.09 G operations.
RESNET = NetworkCost(parameters=25_557_032, flops=24.54e9)
FAST = Machine(bandwidth=25e9, flops=100e12)


def test_the_lessons_ratio_of_resnet_50() -> None:
    # 2 · 25,557,032 · 4 B / 25 GB/s = 8.178 ms; 256 · 24.54 G / 100 T = 62.82 ms
    assert compute_s(RESNET, FAST, 256) == pytest.approx(0.0628224)
    assert lesson_ratio(RESNET, FAST, 256, 4) == pytest.approx(0.00817825 / 0.0628224)
    assert speed_up(8, lesson_ratio(RESNET, FAST, 256, 4)) == pytest.approx(7.0785, abs=1e-3)


def test_the_ring_sends_less_than_twice_and_pays_latency_per_turn() -> None:
    machine = Machine(bandwidth=1e9, flops=1e9, latency_s=1e-3)
    assert all_reduce_s(1e9, 1, machine) == 0
    assert all_reduce_s(1e9, 2, machine) == pytest.approx(1.0 + 2e-3)
    assert all_reduce_s(1e9, 4, machine) == pytest.approx(1.5 + 6e-3)
    assert gather_s(1e9, 4, machine) == pytest.approx(0.75 + 3e-3)
    assert exchange_s(1e9, 4, machine) == pytest.approx(0.75 + 3e-3)


def test_the_backward_pass_hides_what_is_shorter_than_two_thirds_of_the_step() -> None:
    assert overlapped_s(3.0, 1.9) == pytest.approx(3.0)
    assert overlapped_s(3.0, 5.0) == pytest.approx(6.0)


def test_the_bubble_shrinks_with_the_micro_batches() -> None:
    assert bubble(1, 8) == 0
    assert bubble(4, 4) == pytest.approx(3 / 7)
    assert bubble(4, 29) == pytest.approx(3 / 32)


def test_the_batch_for_a_ratio_is_the_smallest_that_holds_it() -> None:
    batch = batch_for(RESNET, FAST, 0.1, 4)
    assert lesson_ratio(RESNET, FAST, batch, 4) <= 0.1 < lesson_ratio(RESNET, FAST, batch - 1, 4)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("25GB/s", 25e9), ("100Gb/s", 12.5e9), ("2.5e9", 2.5e9), ("nvlink", 450e9),
        ("PCIe", 32e9), ("500 MB/s", 5e8),
    ],
)  # fmt: skip
def test_bandwidths_as_people_write_them(text: str, value: float) -> None:
    assert bandwidth(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("312TFLOPS", 312e12), ("19.5T", 19.5e12), ("3e12", 3e12)]
)
def test_operations_as_people_write_them(text: str, value: float) -> None:
    assert operations(text) == value


@pytest.mark.parametrize("text", ["fast", "-3GB/s", "0", "GB/s"])
def test_what_is_no_bandwidth_is_told(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no figure: write for example"):
        bandwidth(text)


def test_a_machine_without_speed_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="above 0"):
        Machine(bandwidth=0, flops=1)
