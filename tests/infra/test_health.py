"""The health check of a worker's container."""

import pytest

from infra import health


@pytest.mark.broker
def test_healthy_while_the_broker_answers(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    assert health.main() == 0


def test_unhealthy_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health, "TIMEOUT_S", 0.5)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    assert health.main() == 1
    assert "no Kafka answers at 127.0.0.1:9" in capsys.readouterr().err
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS")
    assert health.main() == 1
