"""What Prometheus and Grafana are given: it parses, and names metrics that processes export."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import yaml

from infra.roles import HEALTH, SKEW
from infra.supervisor import ROLES
from kappa.cli.up import process_figures
from serving.health.deciding import Health
from serving.health.exporting import Exported, registry_of, shown
from serving.health.worker import figures_of
from serving.http.metrics import Metrics
from streams.hops import Ledger
from tests.infra.process_states import STATUS
from tests.serving.health.seen import T0, TOPICS, seen, vitals

INFRA = Path(__file__).resolve().parents[2] / "infra"
NAME = re.compile(r"\b(?:kappa|process)_[a-z0-9_]+")
ENDINGS = ("_bucket", "_sum", "_count")


def exported() -> Exported:
    """Return what a process shows that knows of everything."""
    ledger = Ledger()
    ledger.note("features_to_prediction", np.array([3, 70_000]))
    ledger.count("p.events.v1", 5)
    ledger.count_dead("p.events.v1", 1)
    health = seen(T0, monitor={0: (3, 10)}, dead=2)
    own = {**figures_of(health, Health(TOPICS)), **process_figures(STATUS)}
    process = Exported("inference", ledger)
    process.listen(
        vitals(T0, gpu_busy=0.25, gpu_memory_bytes=9, network_in_bytes=1, network_out_bytes=2,
               figures=own)
    )  # fmt: skip
    return process


@pytest.fixture(scope="module")
def samples() -> dict[str, list[Any]]:
    """Return sample name → samples, of a process and of the HTTP service."""
    found: dict[str, list[Any]] = {}
    for registry in (registry_of(exported()), Metrics().registry):
        for family in registry.collect():
            found.setdefault(family.name, [])
            if family.type == "counter":
                found.setdefault(f"{family.name}_total", [])
            if family.type == "histogram":
                for ending in ENDINGS:
                    found.setdefault(family.name + ending, [])
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample)
    return found


def expressions() -> dict[str, str]:
    """Return where it stands → expression, of the rules and the dashboard."""
    rules = yaml.safe_load((INFRA / "prometheus" / "rules.yml").read_text())
    found = {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    dashboard = json.loads((INFRA / "grafana" / "kappa.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def test_every_metric_that_is_asked_for_is_exported(samples: dict[str, list[Any]]) -> None:
    asked = expressions()
    assert len(asked) > 30
    for where, expression in asked.items():
        names = set(NAME.findall(expression))
        assert names or "up{" in expression, where
        assert names <= set(samples), f"{where}: {names - set(samples)}"


def test_labels_that_are_asked_for_are_there(samples: dict[str, list[Any]]) -> None:
    for where, expression in expressions().items():
        for name, labels in re.findall(r"(kappa_[a-z0-9_]+)\{([^}]*)\}", expression):
            known = set(samples[name][0].labels)
            for label in re.findall(r"([a-z_]+)\s*[=!]", labels):
                assert label in known, f"{where}: {name} has no label {label}"


def test_names_follow_the_conventions(samples: dict[str, list[Any]]) -> None:
    own = {name for name in samples if name.startswith("kappa_")}
    assert {"kappa_records_total", "kappa_hop_seconds_bucket", "kappa_lag_records"} <= own
    assert not [name for name in own if re.search(r"_(ms|milliseconds|mb|percent)(_|$)", name)]
    buckets = list(samples["kappa_hop_seconds_bucket"])
    assert buckets[-1].labels["le"] == "+Inf"
    assert (buckets[-1].value, samples["kappa_hop_seconds_count"][0].value) == (2, 2)
    assert samples["kappa_hop_seconds_sum"][0].value == pytest.approx(70.003)
    lag = {tuple(s.labels.values()): s.value for s in samples["kappa_lag_records"]}
    assert lag["monitor", TOPICS.predictions, "0"] == 7


def test_rules_say_how_bad_it_is_and_what_to_do() -> None:
    rules = yaml.safe_load((INFRA / "prometheus" / "rules.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "fix"} <= set(rule["annotations"])


def test_prometheus_asks_every_role_of_the_compose_file() -> None:
    config = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())
    targets = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == [f"{role}:9400" for role in (*ROLES, SKEW, HEALTH)]
    assert all((INFRA / "prometheus" / name).exists() for name in config["rule_files"])


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads((INFRA / "grafana" / "kappa.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_it_is_shown_on_the_loopback_interface_while_the_process_lives() -> None:
    with shown(exported(), 0) as port:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        assert 'kappa_records_total{role="inference",topic="p.events.v1"} 5.0' in text
        assert "process_resident_memory_bytes" in text
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)
