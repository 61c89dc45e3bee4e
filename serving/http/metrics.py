"""What the service tells Prometheus. No label names an entity."""

from __future__ import annotations

import os
from typing import Any

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""The client's own variable: the folder by which several processes add up."""

_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The service's figures, in a registry of its own."""

    def __init__(self) -> None:
        import prometheus_client as client

        self._client = client
        self.registry = registry = client.CollectorRegistry()

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Any:
            return client.Histogram(name, text, labels, registry=registry, buckets=buckets)

        self.requests = client.Counter(
            "kappa_http_requests_total", "Requests answered.", ("route", "status"),
            registry=registry,
        )  # fmt: skip
        self.seconds = histogram(
            "kappa_http_request_seconds", "From a request's head to its answer's end.",
            _SECONDS, "route",
        )  # fmt: skip
        self.rows = histogram("kappa_http_batch_rows", "Rows of a request.", _ROWS)
        self.together = histogram("kappa_http_rows_together", "Rows answered at once.", _ROWS)
        self.store_seconds = histogram(
            "kappa_http_store_seconds", "A look into the online store.", _SECONDS
        )
        self.model_seconds = histogram("kappa_http_model_seconds", "A model's call.", _SECONDS)
        self.predictions = client.Counter(
            "kappa_http_predictions_total", "Rows answered.", ("model_version", "stage", "origin"),
            registry=registry,
        )  # fmt: skip
        self.logged = client.Counter(
            "kappa_http_log_records_total", "Answers for the requests' topic, by what became of "
            "them.", ("result",), registry=registry,
        )  # fmt: skip
        self.in_flight = client.Gauge(
            "kappa_http_in_flight", "Requests under way.", registry=registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.model_version = client.Gauge(
            "kappa_http_model_version", "The version that is live.", registry=registry,
            multiprocess_mode="max",
        )  # fmt: skip
        for result in ("delivered", "queue_full", "not_delivered"):
            self.logged.labels(result)

    def text(self) -> tuple[bytes, str]:
        """Return the figures and their media type; of several processes the sums."""
        registry = self.registry
        if MULTIPROCESS in os.environ:
            from prometheus_client import multiprocess

            registry = self._client.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return self._client.generate_latest(registry), self._client.CONTENT_TYPE_LATEST
