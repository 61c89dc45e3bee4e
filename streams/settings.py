"""The one module that reads the environment."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

AnswerWith = Literal["auto", "cpu", "torch", "cuda"]


class Settings(BaseSettings):
    """What a process of the pipeline takes from its environment.

    ``KAPPA_HOME``: the one folder of state, default ``.kappa`` in the working folder.
    ``KAFKA_BOOTSTRAP_SERVERS``: a Kafka to use in place of the embedded broker.
    ``KAPPA_WORKER``: this process's lasting name among those of its role, default the host's.
    ``KAPPA_BROKER_PORT``: the embedded broker's port, default any free one.
    ``KAPPA_BROKER_HEAP_MB``: the limit of the embedded broker's Java heap, in MB.
    ``KAPPA_ONLINE_STORE``: where online features lie: ``sqlite`` (the default, a file under the
    home) or a Redis server, ``redis://[user:password@]host:port/database``.
    ``KAPPA_ONLINE_INTERVAL_MS``: for how long rows are collected before the newest of each entity
    is written to the online store.
    ``KAPPA_SNAPSHOTS``: where the feature workers keep their states, a folder or an address that
    fsspec knows, such as ``s3://bucket/states``; by default in the pipeline's part of the home.
    ``KAPPA_ANSWER_WITH``: what runs the models: ``auto`` (the default: a GPU where there is one,
    ONNX Runtime on the CPU elsewhere), ``cpu`` (ONNX Runtime, or torch where a model can't be run
    by it), ``torch`` (on the CPU) or ``cuda``.
    ``KAPPA_METRICS_PORT``: where each process shows its figures to Prometheus (``/metrics``), a
    port of ``KAPPA_METRICS_HOST``, by default 127.0.0.1; without a port nowhere.
    ``KAPPA_STUCK_AFTER_S``: a worker whose loop stands still for so many seconds ends, and is
    started again by its supervisor.
    ``KAPPA_SKEW_EVERY``: every which partition the skew audit follows; 1, all of them, by default.
    """

    model_config = SettingsConfigDict(env_prefix="KAPPA_", extra="ignore")

    home: Path = Path(".kappa")
    bootstrap_servers: str | None = Field(default=None, validation_alias="KAFKA_BOOTSTRAP_SERVERS")
    worker: str | None = None
    broker_port: int | None = Field(default=None, ge=1, le=65_535)
    broker_heap_mb: int = Field(default=512, ge=64)
    mlflow_tracking_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    online_store: SecretStr | None = None  # it may hold a password: no log shows it
    online_interval_ms: int = Field(default=250, ge=1)
    snapshots: str | None = None
    answer_with: AnswerWith = "auto"
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    metrics_host: str = "127.0.0.1"
    stuck_after_s: float = Field(default=300.0, gt=0)
    skew_every: int = Field(default=1, ge=1)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    training_ranks: int = 2
    replication: int = 1

    def pipeline_home(self, name: str) -> Path:
        """Return the folder of one pipeline's state (snapshots, segments, models, online store)."""
        return self.home.resolve() / "pipelines" / name

    def snapshots_of(self, name: str, home: Path) -> Path | str:
        """Return where the states of pipeline ``name`` lie, whose other state lies in ``home``."""
        return f"{self.snapshots.rstrip('/')}/{name}" if self.snapshots else home / "snapshots"

    @property
    def online_store_address(self) -> str | None:
        """The address of the server with the online features; None for the SQLite file."""
        address = self.online_store.get_secret_value() if self.online_store else "sqlite"
        return None if address in ("", "sqlite") else address


def from_environment(variable: str) -> str | None:
    """Return a variable that a configuration file names, so that the file holds no secret."""
    return os.environ.get(variable)
