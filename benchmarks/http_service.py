"""How quickly the HTTP service answers, beside a bare endpoint and the bare model.

    uv run python benchmarks/http_service.py [--seconds S] [--json]

The flagship's features and network; SQLite as the online store, 1,000 stations in it; answers kept
in the requests' topic of an embedded broker. wrk asks (apt-get install wrk), on the machine and the
cores of the service, so its own work is in the figures. ``bare`` is a FastAPI endpoint
under the same server that reads the body and answers two bytes; ``model`` is the model called in a
loop without any server. ``entity`` asks by entity, ``given`` with given features; ``x64`` is rows
per request, ``c16`` open connections; p50 to p99 in milliseconds, ``cpu_us`` the server's processor
time per request in microseconds, which a busy machine changes least.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.report import report  # noqa: E402
from examples.citibike import pipeline  # noqa: E402
from features.records import FeatureRows  # noqa: E402
from features.store.columnar import open_store  # noqa: E402
from features.store.rows import entity_keys  # noqa: E402
from features.store.table import store_folder  # noqa: E402
from features.store.views import stored_name, view_of  # noqa: E402
from infra.broker import EmbeddedBroker  # noqa: E402
from streams.control import ControlWriter  # noqa: E402
from streams.settings import Settings  # noqa: E402
from streams.topics import ensure_topics  # noqa: E402
from streams.wire import Registered, StageChanged  # noqa: E402

PACKAGES = ("fastapi", "uvicorn", "uvloop", "httptools", "msgspec", "onnxruntime", "numpy")
WRK = shutil.which("wrk")
STATIONS = 1_000
NOW_MS = 1_750_000_000_000
CONNECTIONS = (1, 16, 64)
LATENCY = re.compile(r"^\s+(50|90|99)%\s+([\d.]+)(us|ms|s)$", re.MULTILINE)
IN_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}

BARE = """
from fastapi import FastAPI, Request, Response
app = FastAPI()
@app.post("/v1/predict")
async def bare(request: Request) -> Response:
    await request.body()
    return Response(b"{}", media_type="application/json")
"""


def main() -> None:
    """Measure, print a table, and with --json one object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=5, help="per point")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if WRK is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        broker = EmbeddedBroker(Path(folder))
        try:
            figures = measure(broker.start(), Path(folder), options.seconds)
        finally:
            broker.stop()
    wrk = subprocess.run([str(WRK), "-v"], capture_output=True, text=True, check=False).stdout
    versions = {"wrk": wrk.split()[1]}
    title = "HTTP: requests per second and milliseconds"
    report(title, figures, {}, PACKAGES, options.json, versions=versions)


def measure(bootstrap: str, folder: Path, seconds: int) -> dict[str, float]:
    """Return the figures: requests/s, percentiles in ms, rows/s of the bare model."""
    home = folder / "pipelines" / pipeline.name
    ensure_topics(bootstrap, pipeline.topic_specs)
    rows = made_up_rows()
    fill_store(home, rows)
    register(bootstrap, home, rows)
    figures = bare_model(home, rows)
    bodies = {
        "given": given_bodies(rows), "entity": entity_bodies(rows),
        "given_x64": [json.dumps(b) for b in batches(map(json.loads, given_bodies(rows)))],
        "entity_x64": [json.dumps(b) for b in batches(map(json.loads, entity_bodies(rows)))],
    }  # fmt: skip
    (folder / "bare_app.py").write_text(BARE)
    bare = [sys.executable, "-m", "uvicorn", "bare_app:app", "--no-access-log"]
    served = [sys.executable, "-m", "kappa", "serve", "-p", "examples.citibike"]
    for name, command, cwd, ready in (
        ("bare", bare, folder, "/openapi.json"),
        ("serve", [*served, "--no-access-log"], ROOT, "/readyz"),
        ("serve_access_log", served, ROOT, "/readyz"),
    ):
        with running(command, cwd, bootstrap, folder, ready) as (
            address,
            process,
        ):
            kinds = ["given"] if name != "serve" else list(bodies)
            for kind in kinds:
                script = lua(folder, bodies[kind])
                wrk(address, process, script, 4, 1)  # warms up
                for connections in CONNECTIONS if name == "serve" else (1, 64):
                    if kind.endswith("x64") and connections == 64:
                        continue
                    point = f"{name}_{kind}_c{connections}"
                    for key, value in wrk(address, process, script, connections, seconds).items():
                        figures[f"{point}_{key}"] = value
    return figures


def wrk(
    address: str, process: psutil.Process, script: Path, connections: int, seconds: int
) -> dict[str, float]:
    """Return the figures of one point; an answer other than 200 ends it all."""
    before = process.cpu_times()
    done = subprocess.run(
        [str(WRK), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script),
         f"{address}/v1/predict"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        sys.exit(done.stdout)
    (rate,) = re.findall(r"Requests/sec:\s+([\d.]+)", done.stdout)
    (requests,) = re.findall(r"(\d+) requests in", done.stdout)
    now = process.cpu_times()
    cpu_s = now.user + now.system - before.user - before.system
    found = {f"p{p}": float(v) * IN_MS[unit] for p, v, unit in LATENCY.findall(done.stdout)}
    return {"per_s": float(rate), **found, "cpu_us": 1e6 * cpu_s / max(int(requests), 1)}


def lua(folder: Path, bodies: list[str]) -> Path:
    """Write wrk's script, which sends the bodies in turn; return its path."""
    lines = ",\n".join(f"[==[{body}]==]" for body in bodies)
    script = folder / "bodies.lua"
    script.write_text(
        f"local bodies = {{\n{lines}\n}}\nlocal n = 0\n"
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        "request = function()\n  n = n % #bodies + 1\n"
        "  return wrk.format(nil, nil, nil, bodies[n])\nend\n"
    )
    return script


def made_up_rows() -> FeatureRows:
    """Return a row of each station."""
    definition, random = pipeline.features, np.random.default_rng(1)
    n, zeros = STATIONS, np.zeros(STATIONS, np.int64)
    texts = {"hour": 24, "weekday": 7, "user_type": 2, "station": n}
    names = [f"JC{i:03d}" for i in range(n)]
    columns = [
        names if name == "station" else [str(v) for v in random.integers(0, texts.get(name, 5), n)]
        for name in definition.names("category")
    ]
    numbers = random.gamma(2.0, 10.0, (n, len(definition.names("numeric"))))
    return FeatureRows(0, names, names, zeros, zeros, numbers, columns, [])


def fill_store(home: Path, rows: FeatureRows) -> None:
    """Put the rows into the online store."""
    view = view_of(pipeline.features, pipeline.events)
    store = open_store(store_folder(home), Settings())
    store.write(
        stored_name(pipeline.name, view.name), entity_keys(view.entity, rows.entities),
        np.full(len(rows), NOW_MS), view.layout.encode(rows.numeric, rows.categories),
    )  # fmt: skip
    store.close()


def register(bootstrap: str, home: Path, rows: FeatureRows) -> None:
    """Write an untrained package of the flagship's shape and put it live."""
    from training.calibration import Platt
    from training.dataset.encoding import Encoding
    from training.networks.build import build
    from training.networks.shape import Shape
    from training.package import save_package
    from training.reference import Reference

    definition = pipeline.features
    encoding = Encoding.fit(definition.names("numeric"), definition.names("category"), rows)
    shape = Shape(encoding.numeric_width, encoding.code_counts, pipeline.model.network)
    digest = save_package(
        home / "package",
        weights={name: value.numpy() for name, value in build(shape).state_dict().items()},
        shape=shape, task=pipeline.model.task, encoding=encoding, calibration=Platt(),
        reference=Reference.from_rows([rows], definition), metrics={}, manifest={},
    )  # fmt: skip
    writer, models = ControlWriter(bootstrap), pipeline.topics.models
    uri = str(home / "package")
    writer.append_model_event(models, Registered(1, "c1", uri, digest, {}, {}, None))
    writer.append_model_event(models, StageChanged(1, "live", "benchmark"))


def bare_model(home: Path, rows: FeatureRows) -> dict[str, float]:
    """Return calls/s of the model alone, for 1 row and for 64."""
    from training.package import load_package

    answers = load_package(str(home / "package")).answers
    figures = {}
    for n in (1, 64):
        texts = [column[:n] for column in rows.categories]
        part = FeatureRows(
            0, rows.entities[:n], rows.entities[:n], rows.event_times_ms[:n],
            rows.source_offsets[:n], rows.numeric[:n], texts, [],
        )  # fmt: skip
        answers(part)
        figures[f"model_x{n}_calls_per_s"] = repeated(lambda part=part: answers(part))  # type: ignore[misc]
    return figures


def repeated(call: Callable[[], Any]) -> float:
    """Return calls per second, over a second."""
    begun, calls = time.perf_counter(), 0
    while time.perf_counter() - begun < 1:
        call()
        calls += 1
    return calls / (time.perf_counter() - begun)


def given_bodies(rows: FeatureRows) -> list[str]:
    """Return a request with given features per station."""
    definition = pipeline.features
    numeric, categories = definition.names("numeric"), definition.names("category")
    made = []
    for i, entity in enumerate(rows.entities):
        values: dict[str, Any] = dict(zip(numeric, rows.numeric[i].tolist(), strict=True))
        values |= {name: rows.categories[c][i] for c, name in enumerate(categories)}
        made.append(json.dumps({"entity": entity, "features": values}))
    return made


def entity_bodies(rows: FeatureRows) -> list[str]:
    """Return a request by entity per station, with what is known of the trip."""
    event = {"bike": "b1", "user_type": "Customer"}
    at = {"at_ms": NOW_MS + 60_000, "event": event}
    return [json.dumps({"entity": entity, **at}) for entity in rows.entities]


def batches(rows: Any) -> Iterator[list[Any]]:
    """Yield the rows, 64 at a time."""
    every = list(rows)
    for start in range(0, len(every) - 63, 64):
        yield every[start : start + 64]


@contextmanager
def running(
    command: list[str], cwd: Path, bootstrap: str, home: Path, ready: str
) -> Iterator[tuple[str, psutil.Process]]:
    """Run a server on a free port; yield its address and process once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": bootstrap, "KAPPA_HOME": str(home)}
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], cwd=cwd, env=environment, stdout=log, stderr=log
        )
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            try:
                urlopen(address + ready, timeout=5).close()  # noqa: S310
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit((home / "server.log").read_text())
                time.sleep(0.1)
        yield address, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


if __name__ == "__main__":
    main()
