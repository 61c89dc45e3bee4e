"""Which processes a pipeline has, by its definitions and their keys."""

import pytest

from infra.roles import check_role, feature_stages, roles_of, stages_at
from infra.supervisor import ROLES
from serving.pipeline import Pipeline
from streams.errors import ConfigurationError
from tests.features import shops

ONE_KEY = shops.definition(1, shops.OF_CARD)
TWO_KEYS = shops.definition(2, {**shops.OF_CARD, **shops.OF_SHOP})


def pipeline(*definitions: object) -> Pipeline:
    return Pipeline("shops", shops.PAYMENTS, shops.VERDICTS, definitions)  # type: ignore[arg-type]


def test_one_key_has_the_five_roles() -> None:
    assert roles_of(pipeline(ONE_KEY)) == ROLES


def test_each_further_key_has_a_role_of_its_own() -> None:
    assert roles_of(pipeline(TWO_KEYS)) == ("features-card", *ROLES)


def test_a_further_definition_has_its_version_behind_the_role() -> None:
    both = pipeline(ONE_KEY, TWO_KEYS)
    assert roles_of(both) == ROLES
    wanted = ("features", "features-card.v2", "features.v2", *ROLES[1:])
    assert roles_of(both, both.definitions) == wanted
    stages = feature_stages(both)
    assert stages["features.v2"].group == "shops.features.v2"
    assert stages["features.v2"].input == "shops.shop.v2"
    assert stages["features-card.v2"].group == "shops.features-card.v2"
    assert stages["features"].input == "shops.events.v1"
    assert [stage.role for stage in stages_at(both, both.topics_of(TWO_KEYS))] == [
        "features-card",
        "features",
    ]
    check_role("features-card.v2", both)
    with pytest.raises(ConfigurationError, match=r"it is features, features-card\.v2, feat"):
        check_role("features-card", both)
