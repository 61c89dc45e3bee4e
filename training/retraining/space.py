"""What a search tries, as a pipeline file says it; and one point of it as a model. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

from streams.durations import seconds
from streams.errors import DefinitionError
from training.networks.declared import Custom, Network, Tabular, Transformer
from training.spec import Model


class Chooser(Protocol):
    """Picks values; an Optuna trial is behind it, or what a test says."""

    def among(self, name: str, options: Sequence[str]) -> str:
        """Return one of ``options``."""
        ...

    def between(self, name: str, low: float, high: float, log: bool, /) -> float:
        """Return a number in [low, high], even in its logarithm where ``log``."""
        ...


@dataclass(frozen=True)
class Space:
    """What ``kappa tune`` tries beside what the pipeline file declares.

    What is declared is always among the options, and is the first thing tried. An empty tuple
    leaves a setting as it is declared; so does one that the network does not have.

    Args:
        hidden: widths of the hidden layers, of a :class:`Tabular` network.
        width: of the vectors of a :class:`Transformer`; multiples of its heads.
        layers: of a Transformer.
        dropout: least and largest.
        learning_rate: least and largest; tried evenly in its logarithm, and so is
        weight_decay: least and largest.
        batch: examples per rank and micro-batch.
        half_life: ages at which an example counts half; None weights all alike.
    """

    hidden: tuple[tuple[int, ...], ...] = ((64,), (128, 64), (256, 128), (128, 64, 32))
    width: tuple[int, ...] = (32, 64, 128)
    layers: tuple[int, ...] = (1, 2, 3)
    dropout: tuple[float, float] | tuple[()] = (0.0, 0.4)
    learning_rate: tuple[float, float] | tuple[()] = (3e-4, 3e-2)
    weight_decay: tuple[float, float] | tuple[()] = (1e-6, 1e-2)
    batch: tuple[int, ...] = (128, 256, 512, 1024)
    half_life: tuple[str | None, ...] = (None, "60d", "30d", "14d", "7d")

    def __post_init__(self) -> None:
        """Check the ranges; raises DefinitionError."""
        for name, least in (("dropout", 0.0), ("learning_rate", 1e-12), ("weight_decay", 1e-12)):
            bounds = getattr(self, name)
            if bounds and not (len(bounds) == 2 and least <= bounds[0] < bounds[1]):
                raise DefinitionError(
                    f"Space({name}={bounds}): the least and the largest, from {least:g} on, or ()"
                )
        for length in self.half_life:
            if length is not None:
                seconds(length)

    def model(self, declared: Model, chooser: Chooser) -> Model:
        """Return ``declared`` with what ``chooser`` picks; numbers have three digits."""
        picked: dict[str, Any] = {}
        if self.learning_rate:
            picked["learning_rate"] = _rate(
                chooser, "learning_rate", self.learning_rate, declared.learning_rate
            )
        if self.weight_decay:
            picked["weight_decay"] = _rate(
                chooser, "weight_decay", self.weight_decay, declared.weight_decay
            )
        if self.batch:
            picked["batch"] = _one(chooser, "batch", self.batch, declared.batch)
        if self.half_life:
            picked["half_life"] = _one(chooser, "half_life", self.half_life, declared.half_life)
        return replace(declared, network=self._network(declared.network, chooser), **picked)

    def _network(self, declared: Network, chooser: Chooser) -> Network:
        if isinstance(declared, Custom):
            return declared
        picked: dict[str, Any] = {}
        options: dict[str, Sequence[Any]] = (
            {"hidden": self.hidden}
            if isinstance(declared, Tabular)
            else {"width": _dividing(self.width, declared), "layers": self.layers}
        )
        for name, values in options.items():
            if values:
                picked[name] = _one(chooser, name, values, getattr(declared, name))
        if self.dropout:
            low, high = _widened(self.dropout, declared.dropout)
            picked["dropout"] = round(chooser.between("dropout", low, high, False), 3)
        return replace(declared, **picked)


def values_of(model: Model) -> dict[str, Any]:
    """Return what a search may change in ``model``: name → value."""
    settings: dict[str, Any] = {}
    if not isinstance(model.network, Custom):
        names = ("hidden",) if isinstance(model.network, Tabular) else ("width", "layers")
        settings = {name: getattr(model.network, name) for name in (*names, "dropout")}
    for name in ("learning_rate", "weight_decay", "batch", "half_life"):
        settings[name] = getattr(model, name)
    return settings


def declaration(model: Model) -> str:
    """Return the Python text that declares ``model``, what is by default left out.

    >>> declaration(Model(prior=0.15, network=Tabular(hidden=(64,))))
    'Model(prior=0.15, network=Tabular(hidden=(64,)))'
    """
    return _text(model)


def _text(declared: Any) -> str:
    stated = []
    for of in fields(declared):
        value = getattr(declared, of.name)
        made = of.default_factory() if of.default_factory is not MISSING else of.default
        if value != made:
            text = _text(value) if is_dataclass(value) else repr(value)
            stated.append(f"{of.name}={text}")
    return f"{type(declared).__name__}({', '.join(stated)})"


def _one(chooser: Chooser, name: str, options: Sequence[Any], declared: Any) -> Any:
    by_text = {repr(option): option for option in (declared, *options)}
    return by_text[chooser.among(name, list(by_text))]


def _rate(chooser: Chooser, name: str, bounds: tuple[float, float], declared: float) -> float:
    low, high = _widened(bounds, declared) if declared > 0 else bounds
    return float(f"{chooser.between(name, low, high, True):.3g}")


def _widened(bounds: tuple[float, float], declared: float) -> tuple[float, float]:
    return min(bounds[0], declared), max(bounds[1], declared)


def _dividing(widths: tuple[int, ...], network: Transformer) -> tuple[int, ...]:
    return tuple(width for width in widths if width % network.heads == 0)
