"""The tabular network: embedded categories and encoded numbers into outputs. torch alone."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.networks.declared import Experts
from training.networks.experts import MixtureOfExperts
from training.networks.links import Cut, Link

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
        experts: a mixture of experts that adds to what the hidden layers found, or None.
    """

    def __init__(
        self,
        numeric_width: int,
        code_counts: Sequence[int],
        hidden: Sequence[int],
        dropout: float = 0.0,
        outputs: int = 1,
        experts: Experts | None = None,
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
        if experts is not None:
            layers.append(AddedExperts(width, experts))
        self.deep = nn.Sequential(*layers, nn.Linear(width, outputs))
        self.wide = nn.Linear(inputs, outputs)
        self.outputs = outputs

    def forward(self, numeric: Tensor, codes: Tensor) -> Tensor:
        """Return outputs (n, O) of numeric inputs (n, W) float and codes (n, C) int64."""
        inputs = self._inputs(numeric, codes)
        outputs: Tensor = self.deep(inputs) + self.wide(inputs)
        return outputs

    def links(self) -> list[Link]:
        """Return the network as a chain: inputs and linear path, each layer, head.

        What goes from link to link is the linear path's outputs (n, O) beside the layer's (n, H).
        """
        first = Link(("embeddings.", "wide."), lambda inputs, _: self._begin(*inputs))
        layers = [_link(self, each) for each in _groups(self.deep)]
        return [first, *layers]

    def tensor_plan(self) -> dict[str, Cut]:
        """Return how the deep path is cut over ranks: its linear layers pair by pair."""
        groups = [layers[0] for layers in _groups(self.deep)]
        linear = [isinstance(self.deep[i], nn.Linear) for i in groups]
        plan: dict[str, Cut] = {}
        at = 0
        while at + 1 < len(groups):
            if not (linear[at] and linear[at + 1]):
                at += 1
                continue
            plan[f"deep.{groups[at]}"], plan[f"deep.{groups[at + 1]}"] = "column", "row"
            at += 2
        return plan

    def run_layers(self, layers: Sequence[int], x: Tensor) -> Tensor:
        """Return what ``layers`` of the deep path make of what goes from link to link."""
        wide, hidden = x[:, : self.outputs], x[:, self.outputs :]
        for i in layers:
            hidden = self.deep[i](hidden)
        if layers[-1] == len(self.deep) - 1:
            return hidden + wide
        return torch.cat([wide, hidden], dim=1)

    def _inputs(self, numeric: Tensor, codes: Tensor) -> Tensor:
        embedded = [embedding(codes[:, i]) for i, embedding in enumerate(self.embeddings)]
        return torch.cat([numeric, *embedded], dim=1)

    def _begin(self, numeric: Tensor, codes: Tensor) -> Tensor:
        inputs = self._inputs(numeric, codes)
        return torch.cat([self.wide(inputs), inputs], dim=1)


class AddedExperts(nn.Module):
    """A mixture of experts whose answers are added to its inputs."""

    def __init__(self, width: int, experts: Experts) -> None:
        super().__init__()
        self.mixture = MixtureOfExperts(width, experts)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, D) of (n, D)."""
        answered: Tensor = x + self.mixture(x)
        return answered


def _groups(layers: nn.Sequential) -> list[list[int]]:
    """Return the layers' numbers, cut where one with parameters begins."""
    groups: list[list[int]] = []
    for i, layer in enumerate(layers):
        if groups and next(layer.parameters(), None) is None:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _link(network: TabularNetwork, layers: list[int]) -> Link:
    def run(_: tuple[Tensor, ...], x: Tensor | None) -> Tensor:
        if x is None:
            raise ValueError("a link behind the first needs what the one before it gave")
        return network.run_layers(layers, x)

    return Link(tuple(f"deep.{i}." for i in layers), run)


def embedding_width(codes: int) -> int:
    """Return the width of the vectors for ``codes`` codes: 1.6 √codes, at most 16."""
    return min(EMBEDDING_LIMIT, 1 + round(1.6 * math.sqrt(codes)))
