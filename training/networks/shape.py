"""What rebuilds a network that weights belong to: plain values, stored beside them. No torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from training.networks.declared import Custom, Experts, Network, Tabular, Transformer, events_seen

_KINDS: dict[str, type[Tabular] | type[Transformer] | type[Custom]] = {
    "tabular": Tabular,
    "transformer": Transformer,
    "custom": Custom,
}


@dataclass(frozen=True)
class Shape:
    """A network's inputs and outputs, and the declaration of what lies between.

    Args:
        numeric_width: how many numeric inputs an event has.
        code_counts: per category feature the number of codes, 0 for unknown included.
        network: the declaration.
        outputs: how many numbers it gives per example.
    """

    numeric_width: int
    code_counts: tuple[int, ...]
    network: Network
    outputs: int = 1

    @property
    def last(self) -> int:
        """How many events of an entity the network sees, or 0 for the one event alone."""
        return events_seen(self.network)

    def to_json(self) -> dict[str, Any]:
        """Return the shape as plain JSON values."""
        kind = next(name for name, made in _KINDS.items() if isinstance(self.network, made))
        return {
            "numeric_width": self.numeric_width,
            "code_counts": list(self.code_counts),
            "outputs": self.outputs,
            "kind": kind,
            **_plain(self.network),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Shape":
        """Return the shape of :meth:`to_json`; KeyError, TypeError or ValueError where none."""
        values = dict(content)
        width, counts = int(values.pop("numeric_width")), values.pop("code_counts")
        outputs, kind = int(values.pop("outputs")), values.pop("kind")
        if "hidden" in values:
            values["hidden"] = tuple(values["hidden"])
        if values.get("experts") is not None:
            values["experts"] = Experts(**values["experts"])
        return cls(width, tuple(map(int, counts)), _KINDS[kind](**values), outputs)


def _plain(network: Network) -> dict[str, Any]:
    plain = asdict(network)
    if "hidden" in plain:
        plain["hidden"] = list(plain["hidden"])
    return plain
