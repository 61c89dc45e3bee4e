"""ResNet-50 as the paper has it."""

import pytest
import torch

from training.lab.counting import KeptBytes, cost_of, count
from training.lab.resnet import ResNet50
from training.lab.workload import resnet50


def test_it_has_the_papers_parameters_and_operations() -> None:
    counted = count(resnet50())
    assert counted.parameters == 25_557_032
    assert counted.forward_flops / 2 == pytest.approx(4.09e9, rel=0.002)  # multiply-adds
    assert counted.flops == pytest.approx(3 * counted.forward_flops, rel=0.02)


def test_a_quarter_of_the_width_is_a_sixteenth_of_the_work() -> None:
    narrow, wide = (count(resnet50(width, 64, 10)) for width in (16, 64))
    assert narrow.forward_flops == pytest.approx(wide.forward_flops / 16, rel=0.2)
    assert narrow.parameters < wide.parameters / 14


def test_small_images_go_through() -> None:
    torch.manual_seed(0)
    outputs = ResNet50(width=8, classes=7)(torch.randn(3, 3, 32, 32))
    assert outputs.shape == (3, 7)
    assert bool(outputs.isfinite().all())


def test_activations_counted_on_no_data_are_those_of_a_real_run() -> None:
    workload = resnet50(width=8, image=32, classes=10)
    network = workload.build()
    inputs, targets = workload.examples(2, 1, torch.device("cpu"))
    kept = KeptBytes(network)
    with kept.watching():
        workload.loss(network(*inputs), targets)
    assert kept.nbytes / 2 == count(workload).activation_bytes
    assert kept.nbytes > 2 * 3 * 32 * 32 * 4  # more than the images


def test_the_cost_of_its_blocks() -> None:
    cost = cost_of(resnet50())
    assert (cost.blocks, cost.tensor_reduces) == (16, 0)
    stages = 3 * 256 * 56**2 + 4 * 512 * 28**2 + 6 * 1024 * 14**2 + 3 * 2048 * 7**2
    assert cost.block_bytes == 4 * stages / 16
