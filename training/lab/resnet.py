"""ResNet-50 (He et al. 2015), for images of any size from 32 on. torch alone.

A bottleneck's stride stands in its 3 × 3 convolution, as everybody's benchmarks have it ("v1.5"):
25,557,032 parameters and 4.09 G multiply-adds per image of 224 × 224, at 1000 classes.
"""

import torch
from torch import Tensor, nn

BOTTLENECKS = (3, 4, 6, 3)
EXPANSION = 4


class Bottleneck(nn.Module):
    """1 × 1 down to ``width`` channels, 3 × 3, 1 × 1 up to four times that; the input is added."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        wide = EXPANSION * width
        self.branch = nn.Sequential(
            *_convolution(channels, width, 1),
            nn.ReLU(inplace=True),
            *_convolution(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *(last := _convolution(width, wide, 1)),
        )
        nn.init.zeros_(last[1].weight)  # begins as the identity: trains better
        fits = stride == 1 and channels == wide
        self.shortcut: nn.Module = (
            nn.Identity() if fits else nn.Sequential(*_convolution(channels, wide, 1, stride))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, 4·width, h/stride, w/stride) of (n, channels, h, w)."""
        added: Tensor = self.branch(images) + self.shortcut(images)
        return torch.relu(added)


class ResNet50(nn.Module):
    """Images to classes.

    Args:
        width: channels of the first stage; 64 in the paper. Work and parameters go with its square.
        classes: how many.
    """

    def __init__(self, width: int = 64, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            *_convolution(3, width, 7, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        channels = width
        for stage, count in enumerate(BOTTLENECKS):
            for place in range(count):
                stride = 2 if stage and place == 0 else 1
                layers.append(Bottleneck(channels, width * 2**stage, stride))
                channels = EXPANSION * width * 2**stage
        self.body = nn.Sequential(*layers)
        self.classify = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, classes) of images (n, 3, h, w)."""
        outputs: Tensor = self.classify(self.body(images).mean(dim=(2, 3)))
        return outputs


def _convolution(
    channels: int, outputs: int, kernel: int, stride: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return a convolution that keeps the size, but for its stride, and its normalisation."""
    convolution = nn.Conv2d(
        channels, outputs, kernel, stride=stride, padding=kernel // 2, bias=False
    )
    return convolution, nn.BatchNorm2d(outputs)
