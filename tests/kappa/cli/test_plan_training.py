"""``kappa plan training``: the communication model on the command line."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from kappa.cli.main import app
from streams.errors import ConfigurationError


def planned(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["plan", "training", "--json", *arguments])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def layout(plan: dict[str, Any], kind: str, ranks: int) -> dict[str, Any]:
    (found,) = [r for r in plan["layouts"] if (r["kind"], r["ranks"]) == (kind, ranks)]
    return dict(found)


def test_the_lessons_example_is_what_one_works_out_by_hand() -> None:
    plan = planned(
        "--network", "resnet50", "--bandwidth", "25GB/s", "--flops", "100TFLOPS", "--share", "1",
        "--latency", "0", "--batch", "256", "--ranks", "1,8", "--precision", "float32",
    )  # fmt: skip
    assert plan["cost"]["parameters"] == 25_557_032
    computing_s = 256 * plan["cost"]["flops"] / 100e12
    assert plan["ratio"] == pytest.approx(2 * 25_557_032 * 4 / 25e9 / computing_s)
    eight = layout(plan, "DP", 8)
    assert eight["lesson"] == pytest.approx(8 / (1 + plan["ratio"]))
    assert eight["communication_s"] == pytest.approx(1.75 * 25_557_032 * 4 / 25e9)
    assert eight["memory"]["optimizer"] == 8 * 25_557_032
    assert layout(plan, "FSDP", 8)["memory"]["optimizer"] == 25_557_032
    assert layout(plan, "PP", 8)["idle"] == pytest.approx(7 / 39)


def test_the_pipelines_own_network_is_counted_from_its_declaration() -> None:
    few = planned("-p", "examples.citibike", "--codes", "10")
    many = planned("-p", "examples.citibike", "--codes", "1000")
    assert many["cost"]["parameters"] > few["cost"]["parameters"] > 128 * 64
    assert few["batch"] == 512
    assert few["measured"] is None


def test_a_slower_link_makes_it_worse() -> None:
    quick, slow = (
        planned("--network", "resnet50", "--bandwidth", link) for link in ("nvlink", "ethernet")
    )
    assert slow["ratio"] == pytest.approx(quick["ratio"] * 450 / 1.25)
    assert layout(slow, "DP", 8)["speed_up"] < layout(quick, "DP", 8)["speed_up"]
    assert slow["batch_for_a_tenth"] > quick["batch_for_a_tenth"]


def test_the_tables_name_each_kind_and_its_memory() -> None:
    result = CliRunner().invoke(app, ["plan", "training", "--network", "transformer"])
    assert result.exit_code == 0, result.output
    for text in ("FSDP", "TP", "PP", "N/(1+rho)", "optimiser", "302,986,433 parameters"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "gpt"], "pipeline .*resnet50 or transformer"),
        (["--ranks", "two"], "--ranks two"),
        (["--bandwidth", "fast"], "no figure"),
        (["--precision", "int8"], "float32 or bfloat16"),
        (["--network", "resnet50", "--measure"], "kappa lab ddp measures"),
    ],
)
def test_what_cannot_be_planned_is_told(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["plan", "training", *arguments])
    assert isinstance(result.exception, ConfigurationError)
    with pytest.raises(ConfigurationError, match=message):
        raise result.exception
