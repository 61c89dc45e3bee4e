"""A user's own network: found by name, made, and tried once. torch alone."""

import importlib

import torch
from torch import Tensor, nn

from streams.errors import ModelError
from training.networks.declared import Custom
from training.networks.shape import Shape

TRIAL_ROWS = 2


def build_custom(custom: Custom, shape: Shape) -> nn.Module:
    """Import the class that ``custom`` names, and return ``Class(shape, **settings)``.

    The network is called once with two rows of zeros, so that one that does not fit is refused
    before anything was learnt.

    Raises:
        ModelError: there is no such class, it is no ``torch.nn.Module``, can't be made or called,
            or its outputs have another shape.
    """
    found = _found(custom.network)
    try:
        network = found(shape, **custom.settings)
    except Exception as error:  # whatever a user's class raises
        raise ModelError(
            f"{custom.network} can't be made as Class(shape, **{dict(custom.settings)}): "
            f"{error!r}; its first argument is a training.networks.shape.Shape"
        ) from error
    _try_once(custom.network, network, shape)
    return network


def trial_inputs(shape: Shape, rows: int = TRIAL_ROWS) -> tuple[Tensor, ...]:
    """Return arguments of zeros for ``rows`` examples, as the network of ``shape`` is called."""
    places = (rows, shape.last) if shape.last else (rows,)
    numeric = torch.zeros(*places, shape.numeric_width)
    codes = torch.zeros(*places, len(shape.code_counts), dtype=torch.int64)
    if not shape.last:
        return numeric, codes
    return numeric, codes, torch.ones(rows, dtype=torch.int64)


def _found(name: str) -> type[nn.Module]:
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module raises
        raise ModelError(
            f"the network {name}: module {module_name} can't be imported ({error!r}); put it on "
            "PYTHONPATH of every process that trains or answers"
        ) from error
    found = getattr(module, class_name, None)
    if found is None:
        raise ModelError(f"the network {name}: {module_name} has no class {class_name}")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ModelError(f"the network {name}: {class_name} is no subclass of torch.nn.Module")
    return found


def _try_once(name: str, network: nn.Module, shape: Shape) -> None:
    inputs = trial_inputs(shape)
    training = network.training
    try:
        with torch.no_grad():
            outputs = network.eval()(*inputs)
    except Exception as error:  # whatever a user's class raises
        shapes = ", ".join(str(tuple(each.shape)) for each in inputs)
        raise ModelError(
            f"the network {name} fails when it is called with inputs of shapes {shapes}: {error!r}"
        ) from error
    finally:
        network.train(training)
    wanted = (TRIAL_ROWS, shape.outputs)
    if not isinstance(outputs, Tensor) or tuple(outputs.shape) != wanted:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ModelError(
            f"the network {name} gives {got} for {TRIAL_ROWS} examples, where {wanted} is needed: "
            "return (n, shape.outputs)"
        )
