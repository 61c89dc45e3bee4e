"""A network as a chain, for those who deal its layers over ranks. torch alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Cut = Literal["column", "row"]
"""How a linear layer is cut over ranks: its outputs (column), or its inputs (row). What a column
layer gives goes through element-wise functions, or attention head by head, to a row layer."""

Run = Callable[[tuple[Tensor, ...], Tensor | None], Tensor]


@dataclass(frozen=True, slots=True)
class Link:
    """One link: what it needs of the network, and its part of the forward pass.

    ``owns`` are the beginnings of its state's names. ``run(inputs, x)`` takes the network's own
    arguments and the one tensor that the link before gave, None for the first; the last link
    gives (n, outputs). A link uses no module but its own.
    """

    owns: tuple[str, ...]
    run: Run


class Linked(Protocol):
    """A network that can be cut into a chain of links."""

    def links(self) -> list[Link]:
        """Return the chain; run one after another, the links are the forward pass."""
        ...


class Cuttable(Protocol):
    """A network whose linear layers can be cut over ranks (Shoeybi et al. 2019)."""

    def tensor_plan(self) -> dict[str, Cut]:
        """Return how each linear layer named is cut; those not named stay whole."""
        ...


def run_links(links: Sequence[Link], inputs: tuple[Tensor, ...]) -> Tensor:
    """Return the outputs (n, O) of the whole chain."""
    x = links[0].run(inputs, None)
    for link in links[1:]:
        x = link.run(inputs, x)
    return x
