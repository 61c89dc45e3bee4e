"""docker-compose.yml and the image: what can be known without an engine, and a start with one."""

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.kafka_jars import KAFKA_VERSION
from infra.roles import HEALTH, SKEW
from infra.supervisor import ROLES
from serving.dashboard.options import DashboardOptions
from streams.settings import Settings
from tests.kafka_container import engine_answers

ROOT = Path(__file__).resolve().parents[2]
WORKERS = (*ROLES, SKEW, HEALTH)
OURS = (*WORKERS, "mlflow")
BY_PROFILE = {"serve", "dashboard", "prometheus", "grafana"}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
        "services"
    ]
    return found


def compose_tool() -> list[str] | None:
    """Return the command of whichever docker-compose this machine has."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if shutil.which("docker"):
        plugin = ["docker", "compose"]
        if subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode == 0:
            return plugin
    return None


def compose(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    tool = compose_tool()
    if tool is None:
        pytest.skip("docker-compose is not installed (apt-get install docker-compose)")
    return subprocess.run(
        [*tool, "-f", str(ROOT / "docker-compose.yml"), *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def test_the_tool_accepts_the_file_and_settings_reach_every_role() -> None:
    result = compose("config", KAPPA_PIPELINE="my.pipeline", KAFKA_PORT="19999")
    assert result.returncode == 0, result.stderr
    services = yaml.safe_load(result.stdout)["services"]
    # Some versions of the tool show the services of profiles that are not asked for.
    assert {"kafka", "redis", *OURS} == set(services) - BY_PROFILE
    for role in ROLES:
        assert services[role]["environment"]["KAPPA_PIPELINE"] == "my.pipeline"
    assert "127.0.0.1:19999" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]


def test_every_role_runs_the_entry_point_that_kappa_up_runs(
    services: dict[str, dict[str, Any]],
) -> None:
    healthy = {"condition": "service_healthy"}
    for role in WORKERS:
        assert services[role]["command"] == ["worker", role]
        assert services[role]["depends_on"] == {"kafka": healthy, "redis": healthy}
        assert "state:/state" in services[role]["volumes"]


def test_the_http_service_is_asked_for_and_wants_a_token_by_file(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    result = compose("--profile", "serve", "config", KAPPA_SERVE_TOKEN_FILE=str(token))
    assert result.returncode == 0, result.stderr
    content = yaml.safe_load(result.stdout)
    serve = content["services"]["serve"]
    assert serve["environment"]["KAPPA_SERVE_TOKEN_FILE"] == "/run/secrets/serve_token"  # noqa: S105
    assert serve["environment"]["KAPPA_ONLINE_STORE"] == "redis://redis:6379/0"
    assert content["secrets"]["serve_token"]["file"] == str(token)
    assert services["serve"]["profiles"] == ["serve"]
    assert services["serve"]["read_only"]
    assert services["serve"]["secrets"] == ["serve_token"]


def test_the_page_is_asked_for_and_its_options_are_taken(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    result = compose("--profile", "dashboard", "config", KAPPA_DASHBOARD_TOKEN_FILE=str(token))
    assert result.returncode == 0, result.stderr
    content = yaml.safe_load(result.stdout)
    page = content["services"]["dashboard"]
    assert page["environment"]["KAPPA_DASHBOARD_TOKEN_FILE"] == "/run/secrets/dashboard_token"  # noqa: S105
    assert content["secrets"]["dashboard_token"]["file"] == str(token)
    command, *words = page["command"]
    assert command == "dashboard"
    assert "--remote" in words
    said = [word for word in words if word != "--remote"]
    pairs = list(zip(said[::2], said[1::2], strict=True))
    names = tuple(value for option, value in pairs if option == "--name")
    options = DashboardOptions(dict(pairs)["--host"], 8790, "t" * 64, remote=True, names=names)
    # A browser on the machine asks by one of these names, and has to log in.
    assert options.is_own("127.0.0.1")
    assert options.is_own("localhost")
    assert not options.is_own("elsewhere.example.org")
    assert not options.local
    assert services["dashboard"]["profiles"] == ["dashboard"]


def test_the_environment_names_settings_that_exist(services: dict[str, dict[str, Any]]) -> None:
    known = {f"KAPPA_{name.upper()}" for name in Settings.model_fields}
    known |= {str(field.validation_alias) for field in Settings.model_fields.values()}
    known |= {"KAPPA_PIPELINE"}  # of the command line
    for role in ROLES:
        assert set(services[role]["environment"]) <= known


def test_the_broker_is_the_one_that_tests_run_against(services: dict[str, dict[str, Any]]) -> None:
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_nothing_is_published_beyond_this_machine(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 7
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_containers_are_confined(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"], name
    assert all(services[name]["read_only"] for name in (*OURS, "redis"))


def test_health_is_checked(services: dict[str, dict[str, Any]]) -> None:
    for name in ("kafka", "redis", "mlflow", "serve"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    assert "infra.health" in (ROOT / "infra" / "Dockerfile").read_text()


def test_the_image_holds_every_package_and_runs_without_root() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = (ROOT / "infra" / "Dockerfile").read_text().splitlines()
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert f"COPY {package} {package}" in lines
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER kappa"]
    sources = [
        line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--" not in line
    ]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in (part for parts in sources for part in parts):
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source


def test_the_lock_covers_the_declared_dependencies_by_hash_and_names_no_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    for dependency in [*project["dependencies"], *project["optional-dependencies"]["redis"]]:
        name = dependency.split(">")[0].split("=")[0].split("[")[0]
        assert f"\n{name}==" in lock or f"\n{name}[" in lock, f"{name}: run scripts/lock"
    assert "--hash=sha256:" in lock
    for place in ("://", "--index-url", "--find-links", "file:", str(ROOT)):
        assert place not in lock


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_starts_where_an_engine_answers() -> None:
    if not engine_answers():
        pytest.skip("no Docker engine answers")
    project = ("--project-name", "kappa-test")
    try:
        started = compose(*project, "up", "--build", "--detach", "kafka", *ROLES)
        assert started.returncode == 0, started.stderr
        tool = [*(compose_tool() or ()), *project, "exec", "-T", "inference"]
        result = subprocess.run(
            [*tool, "kappa", "doctor", "--json"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
        assert checks["Broker"]["state"] == "ok"
        assert checks["Topics"]["found"].endswith("are there, as declared")
    finally:
        compose(*project, "down", "--volumes")
