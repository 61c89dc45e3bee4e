"""What a network tells of its structure, and what is asked of one that tells nothing."""

from torch import nn

from streams.errors import DefinitionError
from training.networks.experts import MixtureOfExperts
from training.networks.links import Cut, Link
from training.networks.shape import Shape


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the repeated parts of a network, or the network itself where it names none.

    They are what is recomputed, compiled and sharded one at a time. Of a pipeline's network they
    are those that have stayed on this rank.
    """
    named = getattr(network, "blocks", None)
    if not isinstance(named, nn.ModuleList) or not len(named):
        return [network]
    return [block for block in named if next(block.parameters(), None) is not None]


def links(network: nn.Module, shape: Shape) -> list[Link]:
    """Return the network's chain; raises DefinitionError where it has none."""
    give = getattr(network, "links", None)
    if give is None:
        raise _missing(shape, "pipeline", "links() -> list[Link], its forward pass as a chain")
    chain: list[Link] = give()
    return chain


def tensor_plan(network: nn.Module, shape: Shape) -> dict[str, Cut]:
    """Return how its linear layers are cut; raises DefinitionError where it does not tell."""
    give = getattr(network, "tensor_plan", None)
    plan: dict[str, Cut] = give() if give is not None else {}
    if not plan:
        need = "tensor_plan() -> dict[str, 'column' | 'row'], with at least one pair of layers"
        raise _missing(shape, "tensor", need)
    return plan


def mixtures(network: nn.Module) -> list[MixtureOfExperts]:
    """Return the mixtures of experts of a network."""
    return [module for module in network.modules() if isinstance(module, MixtureOfExperts)]


def _missing(shape: Shape, what: str, need: str) -> DefinitionError:
    name = type(shape.network).__name__
    return DefinitionError(
        f"Parallel({what}=...) with this {name} network: it does not tell how it is cut; leave "
        f"{what} at 1, or give the network a method {need} (training/networks/links.py)"
    )
