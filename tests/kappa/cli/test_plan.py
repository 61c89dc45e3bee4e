"""``kappa plan``: stages, topics and memory without a broker."""

import json

from typer.testing import CliRunner

from kappa.cli.main import app


def planned(*arguments: str) -> dict[str, list[dict[str, object]]]:
    result = CliRunner().invoke(app, ["plan", "--json", *arguments])
    assert result.exit_code == 0, result.output
    found: dict[str, list[dict[str, object]]] = json.loads(result.stdout)
    return found


def test_a_definition_of_two_keys_is_two_stages() -> None:
    customer, terminal = planned("-p", "examples.fraud")["stages"]
    assert (customer["role"], customer["reads"]) == ("features-customer", ["fraud.events.v1"])
    assert customer["writes"] == "fraud.terminal.v1"
    assert terminal["reads"] == ["fraud.terminal.v1", "fraud.labels.v1"]
    assert (terminal["writes"], terminal["group"]) == ("fraud.features.v1", "fraud.features.v1")
    assert "risk_30d" in str(terminal["features"])
    assert "risk_30d" not in str(customer["features"])


def test_memory_grows_with_entities_and_tiles() -> None:
    def mb(*arguments: str) -> float:
        return float(str(planned("-p", "examples.fraud", *arguments)["memory"][0]["partition_mb"]))

    assert mb("--entities", "1000000") > 5 * mb("--entities", "100000")
    assert mb("--tiles", "30") > mb("--tiles", "3")


def test_the_table_names_stages_and_says_how_much_memory() -> None:
    result = CliRunner().invoke(app, ["plan", "-p", "examples.citibike"])
    assert result.exit_code == 0
    assert "trips_24h" in result.stdout
    assert "MB of state per partition" in " ".join(result.stdout.split())
