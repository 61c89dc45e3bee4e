"""The number type of the forward pass, and seeds of what is random in it."""

import torch

from training.spec import Precision

_NAMED = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type that the forward pass computes in; parameters are float32 in any case.

    "auto" is bfloat16 where the GPU has it, float16 with loss scaling on other GPUs, float32 on
    CPUs. The strategy casts (``torch.autocast``), a GradScaler scales where it is float16.
    """
    if precision != "auto":
        return _NAMED[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's generators of the CPU and of ``device``.

    Cheaper than ``torch.manual_seed``, which also walks through every other kind of device.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
