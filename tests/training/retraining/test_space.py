"""What a search may try: a point of a space as a model."""

from collections.abc import Sequence

import pytest

from streams.errors import DefinitionError
from training.networks.declared import Custom, Experts, Tabular, Transformer
from training.networks.tasks import MultiClass
from training.retraining.space import Space, declaration, values_of
from training.spec import Model


class Extreme:
    """Picks the last option and the largest number; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, object] = {}

    def among(self, name: str, options: Sequence[str]) -> str:
        self.asked[name] = options
        return options[-1]

    def between(self, name: str, low: float, high: float, log: bool, /) -> float:
        self.asked[name] = (low, high, log)
        return high


def test_what_is_declared_is_among_the_options() -> None:
    declared = Model(
        network=Tabular(hidden=(48,), dropout=0.7), batch=100, learning_rate=0.1, half_life="3d"
    )
    chooser = Extreme()
    found = Space(hidden=((64,), (32, 16))).model(declared, chooser)
    assert chooser.asked["hidden"] == ["(48,)", "(64,)", "(32, 16)"]
    assert chooser.asked["dropout"] == (0.0, 0.7, False)
    assert chooser.asked["learning_rate"] == (3e-4, 0.1, True)
    assert "'3d'" in chooser.asked["half_life"]  # type: ignore[operator]
    assert values_of(found) == {
        "hidden": (32, 16),
        "dropout": 0.7,
        "learning_rate": 0.1,
        "weight_decay": 0.01,
        "batch": 1024,
        "half_life": "7d",
    }


def test_an_empty_range_leaves_what_is_declared() -> None:
    chooser = Extreme()
    space = Space((), (), (), (), (), (), (), ())
    assert space.model(Model(weight_decay=0.0), chooser) == Model(weight_decay=0.0)
    assert not chooser.asked


def test_a_transformer_keeps_its_heads() -> None:
    chooser = Extreme()
    declared = Model(network=Transformer(width=48, heads=12))
    found = Space(width=(32, 60, 64)).model(declared, chooser)
    assert chooser.asked["width"] == ["48", "60"]
    assert found.network == Transformer(width=60, heads=12, layers=3, dropout=0.4)
    assert "hidden" not in chooser.asked


def test_a_network_of_ones_own_is_left_alone() -> None:
    declared = Model(network=Custom("mine:Net", {"width": 3}))
    assert Space().model(declared, Extreme()).network == declared.network


def test_the_declaration_can_be_pasted() -> None:
    model = Model(
        prior=0.2,
        network=Tabular(hidden=(32, 16), experts=Experts(count=8)),
        task=MultiClass(("a", "b")),
        learning_rate=0.00123,
        half_life="7d",
    )
    text = declaration(model)
    assert "epochs" not in text, "what is by default is left out"
    names = {"Model": Model, "Tabular": Tabular, "Experts": Experts, "MultiClass": MultiClass}
    assert eval(text, names) == model  # noqa: S307  (our own text)


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": (0.0, 0.1)}, {"dropout": (0.5, 0.1)}, {"half_life": ("soon",)}],
)
def test_ranges_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DefinitionError):
        Space(**wrong)  # type: ignore[arg-type]
