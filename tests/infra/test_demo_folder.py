"""The demo empties its folder, and no other."""

from pathlib import Path

import pytest

from infra.demo import demo_broker, demo_settings
from streams.errors import ConfigurationError
from streams.settings import Settings


def test_a_folder_that_no_demo_made_is_not_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    thesis = tmp_path / "demo" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    settings = demo_settings(Settings().model_copy(update={"home": tmp_path}))
    with pytest.raises(ConfigurationError, match="set KAPPA_HOME"), demo_broker(settings):
        pass
    assert thesis.read_text() == "years of work"
