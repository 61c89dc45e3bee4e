"""What an exercise trains: a network, made-up examples for it, a loss. torch and numpy alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from training.lab.resnet import ResNet50
from training.networks.build import build
from training.networks.shape import Shape

WorkloadKind = Literal["resnet50", "network"]
NOISE = 2.0


@dataclass(frozen=True)
class Workload:
    """A network and its examples, as plain values that every rank is told.

    ``settings`` of a ``"resnet50"``: ``width``, ``classes``, ``image`` (pixels each way); of a
    ``"network"`` the JSON of its :class:`training.networks.shape.Shape`.
    """

    kind: WorkloadKind
    settings: Mapping[str, Any]

    def build(self) -> nn.Module:
        """Return the network, drawn from torch's generator."""
        if self.kind == "resnet50":
            return ResNet50(int(self.settings["width"]), int(self.settings["classes"]))
        return build(self.shape)

    @property
    def shape(self) -> Shape:
        """The shape of a ``"network"``."""
        return Shape.from_json(self.settings)

    def examples(
        self, n: int, seed: int, device: torch.device
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return inputs, each (n, ...), and targets (n, ...) that can be learnt from them."""
        random = torch.Generator().manual_seed(seed)
        if self.kind == "resnet50":
            inputs, targets = _images(n, random, self.settings)
        else:
            inputs, targets = _events(n, random, self.shape)
        return tuple(part.to(device) for part in inputs), targets.to(device)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, a scalar: cross entropy of classes, or squared error."""
        if self.kind == "resnet50":
            return nn.functional.cross_entropy(outputs.float(), targets)
        return nn.functional.mse_loss(outputs.float(), targets)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"kind": self.kind, "settings": dict(self.settings)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Workload":
        """Return what :meth:`to_json` described."""
        return cls(content["kind"], content["settings"])


def resnet50(width: int = 64, image: int = 224, classes: int = 1000) -> Workload:
    """Return ResNet-50 on synthetic images."""
    return Workload("resnet50", {"width": width, "image": image, "classes": classes})


def network(shape: Shape) -> Workload:
    """Return one of the pipeline's networks on made-up events."""
    return Workload("network", shape.to_json())


def _images(
    n: int, random: torch.Generator, settings: Mapping[str, Any]
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return noisy copies of one pattern per class: learnt within a few dozen steps."""
    classes, size = int(settings["classes"]), int(settings["image"])
    shown = min(classes, 10)
    patterns = torch.randn(shown, 3, size, size, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(shown, (n,), generator=random)
    noise = torch.randn(n, 3, size, size, generator=random)
    return ((patterns[targets] + NOISE * noise) / (1 + NOISE),), targets


def _events(n: int, random: torch.Generator, shape: Shape) -> tuple[tuple[Tensor, ...], Tensor]:
    steps = (shape.last,) if shape.last else ()
    numeric = torch.randn(n, *steps, shape.numeric_width, generator=random)
    codes = torch.stack(
        [torch.randint(count, (n, *steps), generator=random) for count in shape.code_counts], dim=-1
    ) if shape.code_counts else torch.zeros(n, *steps, 0, dtype=torch.int64)  # fmt: skip
    sums = numeric.reshape(n, -1).mean(dim=1, keepdim=True)
    targets = sums.expand(n, shape.outputs).contiguous()
    if not shape.last:
        return (numeric, codes), targets
    return (numeric, codes, torch.full((n,), shape.last)), targets
