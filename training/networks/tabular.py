"""The tabular network: embedded categories and encoded numbers into outputs. torch alone."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

EMBEDDING_LIMIT = 16


class TabularNetwork(nn.Module):
    """Multi-layer perceptron with a linear path beside it.

    The linear path ("wide and deep", Cheng et al. 2016) learns what is additive from few
    examples and leaves the layers the rest.

    Args:
        numeric_width: number of numeric inputs.
        code_counts: per category feature the number of codes, 0 for unknown included.
        hidden: widths of the hidden layers.
        dropout: probability of dropping a hidden unit in training.
        outputs: how many numbers it gives per example.
    """

    def __init__(
        self,
        numeric_width: int,
        code_counts: Sequence[int],
        hidden: Sequence[int],
        dropout: float = 0.0,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        widths = [embedding_width(count) for count in code_counts]
        embeddings = [
            nn.Embedding(count, width) for count, width in zip(code_counts, widths, strict=True)
        ]
        for embedding in embeddings:
            nn.init.normal_(embedding.weight, std=0.1)
        self.embeddings = nn.ModuleList(embeddings)
        inputs = numeric_width + sum(widths)
        layers: list[nn.Module] = []
        width = inputs
        for next_width in hidden:
            layers += [nn.Linear(width, next_width), nn.SiLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = next_width
        self.deep = nn.Sequential(*layers, nn.Linear(width, outputs))
        self.wide = nn.Linear(inputs, outputs)

    def forward(self, numeric: Tensor, codes: Tensor) -> Tensor:
        """Return outputs (n, O) of numeric inputs (n, W) float and codes (n, C) int64."""
        embedded = [embedding(codes[:, i]) for i, embedding in enumerate(self.embeddings)]
        inputs = torch.cat([numeric, *embedded], dim=1)
        outputs: Tensor = self.deep(inputs) + self.wide(inputs)
        return outputs


def embedding_width(codes: int) -> int:
    """Return the width of the vectors for ``codes`` codes: 1.6 √codes, at most 16."""
    return min(EMBEDDING_LIMIT, 1 + round(1.6 * math.sqrt(codes)))
