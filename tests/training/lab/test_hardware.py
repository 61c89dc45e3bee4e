"""What is known of GPUs."""

import pytest

from training.lab.hardware import machine_facts, peak_flops


@pytest.mark.parametrize(
    ("device", "precision", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989.4),
        ("NVIDIA H100 PCIe", "float16", 756),
        ("NVIDIA A100-SXM4-80GB", "tf32", 156),
        ("NVIDIA A10", "float32", 31.2),
        ("NVIDIA L40S", "bfloat16", 362),
        ("a100", "bfloat16", 312),
    ],
)
def test_the_peak_of_a_device_by_its_own_name(device: str, precision: str, tera: float) -> None:
    assert peak_flops(device, precision) == pytest.approx(tera * 1e12)


def test_what_is_not_known_has_no_peak() -> None:
    assert peak_flops("AMD EPYC", "float32") is None
    assert peak_flops("Tesla V100-SXM2-16GB", "tf32") is None


def test_the_facts_name_device_and_versions() -> None:
    facts = machine_facts(on_gpu=False)
    assert facts["device"]
    assert {"cores", "torch", "python", "system"} <= facts.keys()
