"""Flink SQL in an embedded cluster of one slot: a hopping window, and an OVER window per event.

Both read JSON from Kafka up to the log's end and keep a sum and a count per key over five minutes:
HOP (every minute) gives a row per window and key, OVER one row per event, which is what ours give.
A query runs in a Java process of its own, as often as :data:`RUNS` says: cold, warm (the same job
again, its code compiled by then), without the way to Kafka (rows go to a blackhole), and over an
empty topic. The last is what a job costs without events: it is taken off the warm ones. Set up in
Flink's favour: state on the heap, no checkpoints, objects reused.
"""

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers.outcome import PeerSkippedError, Rates

VERSION = "2.2.1"
CONNECTOR = "5.0.0-2.2"
# Resolved one by one: together the resolver mixes the versions of what they need.
COORDINATES = (
    f"org.apache.flink:flink-table-planner-loader:{VERSION}",
    f"org.apache.flink:flink-table-runtime:{VERSION}",
    f"org.apache.flink:flink-table-api-java-bridge:{VERSION}",
    f"org.apache.flink:flink-clients:{VERSION}",
    f"org.apache.flink:flink-json:{VERSION}",
    f"org.apache.flink:flink-connector-base:{VERSION}",
    f"org.apache.flink:flink-connector-kafka:{CONNECTOR}",
)
TIMEOUT_S = 600.0
RUNS = ("cold", "kafka", "kafka", "blackhole", "empty")
_OPENS = ("java.util", "java.lang", "java.net", "java.io", "java.nio", "java.time", "java.math")

QUERIES = {
    "hop": """
        SELECT card, window_start AS t, SUM(amount) AS sum_5m, COUNT(*) AS count_5m
        FROM TABLE(HOP(TABLE {source}, DESCRIPTOR(t), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE))
        GROUP BY card, window_start, window_end""",
    "over": """
        SELECT card, t, SUM(amount) OVER w AS sum_5m, COUNT(*) OVER w AS count_5m FROM {source}
        WINDOW w AS (PARTITION BY card ORDER BY t
                     RANGE BETWEEN INTERVAL '5' MINUTE PRECEDING AND CURRENT ROW)""",
}

_SOURCE = """
    CREATE TABLE {name} (
        card STRING, amount DOUBLE, ts BIGINT, t AS TO_TIMESTAMP_LTZ(ts, 3),
        WATERMARK FOR t AS t - INTERVAL '60' SECOND
    ) WITH (
        'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap}',
        'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
        'format' = 'json'
    )"""
_COLUMNS = "(card STRING, t TIMESTAMP_LTZ(3), sum_5m DOUBLE, count_5m BIGINT)"
_KAFKA_SINK = """
    CREATE TABLE kafka {columns} WITH (
        'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap}',
        'properties.compression.type' = 'lz4', 'format' = 'json'
    )"""
_BLACKHOLE = "CREATE TABLE blackhole {columns} WITH ('connector' = 'blackhole')"


def script(query: str, bootstrap: str, topic: str, empty: str, sink: str) -> str:
    """Return the SQL that runs ``query`` of :data:`QUERIES` as :data:`RUNS` says."""
    statements = [
        _SOURCE.format(name="payments", topic=topic, bootstrap=bootstrap),
        _SOURCE.format(name="nothing", topic=empty, bootstrap=bootstrap),
        _KAFKA_SINK.format(columns=_COLUMNS, topic=sink, bootstrap=bootstrap),
        _BLACKHOLE.format(columns=_COLUMNS),
    ]
    for run in RUNS:
        source = "nothing" if run == "empty" else "payments"
        to = "blackhole" if run == "blackhole" else "kafka"
        statements.append(f"INSERT INTO {to} {QUERIES[query].format(source=source).strip()}")
    return "\n---\n".join(statements)


def rates(lines: list[str], events: int) -> dict[str, Rates]:
    """Return cold, warm (to Kafka, the better run) and blackhole from what the program printed.

    From all but cold the cost of a job without events is taken off.
    """
    runs = [json.loads(line) for line in lines if line.startswith('{"cpu_s"')]
    if len(runs) != len(RUNS):
        raise PeerSkippedError(f"only {len(runs)} of {len(RUNS)} jobs ended: {_last(lines)}")
    cold, first, second, blackhole, empty = runs

    def warm(run: dict[str, float]) -> Rates:
        spent = {name: max(run[name] - empty[name], 1e-9) for name in ("cpu_s", "wall_s")}
        return Rates(events / spent["cpu_s"], events / spent["wall_s"])

    return {
        "cold": Rates(events / cold["cpu_s"], events / cold["wall_s"]),
        "warm": warm(min(first, second, key=lambda run: run["cpu_s"])),
        "blackhole": warm(blackhole),
    }


def prepare(folder: Path, progress: Callable[[str], None]) -> list[str]:
    """Return the command that runs a SQL file; fetches Flink and compiles where need be.

    Raises:
        PeerSkippedError: there is no Java Development Kit, or Flink can't be fetched.
    """
    java, javac = shutil.which("java"), shutil.which("javac")
    if java is None or javac is None:
        raise PeerSkippedError("needs java and javac (JDK 17 or newer) on PATH")
    classes = os.pathsep.join(map(str, _jars(folder, progress)))
    source = Path(__file__).with_name("FlinkSql.java")
    compiled = subprocess.run(
        [javac, "-nowarn", "-cp", classes, "-d", str(folder), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if compiled.returncode:
        raise PeerSkippedError(f"javac: {compiled.stderr.strip()[:300]}")
    opens = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENS]
    classpath = os.pathsep.join([str(folder), classes])
    return [java, "-Xmx2g", "-XX:+UseG1GC", *opens, "-cp", classpath, "FlinkSql"]


def measure(command: list[str], sql: str, folder: Path, events: int) -> dict[str, Rates]:
    """Run the SQL; return the rates by kind of run.

    Raises:
        PeerSkippedError: it did not end in order, or not in time.
    """
    file = folder / "statements.sql"
    file.write_text(sql)
    try:
        ended = subprocess.run(
            [*command, str(file)], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise PeerSkippedError(f"did not end within {TIMEOUT_S:.0f} s") from None
    if ended.returncode:
        raise PeerSkippedError(f"ended with {ended.returncode}: {_last(ended.stderr.splitlines())}")
    return rates(ended.stdout.splitlines(), events)


def _jars(folder: Path, progress: Callable[[str], None]) -> list[Path]:
    """Return Flink's jars, kept in ``folder``: the resolver rebuilds its own when it is asked."""
    listed = folder / "jars.json"
    if listed.is_file():
        content = json.loads(listed.read_text())
        jars = [folder / "jars" / name for name in content["jars"]]
        if content["coordinates"] == list(COORDINATES) and all(jar.is_file() for jar in jars):
            return jars
    progress(f"fetching Flink {VERSION} from Maven Central: about 150 MB, once")
    (folder / "jars").mkdir(parents=True, exist_ok=True)
    names: dict[str, None] = {}
    for coordinate in COORDINATES:
        for jar in _resolved(coordinate):
            names[jar.name] = None
            shutil.copyfile(jar, folder / "jars" / jar.name)
    listed.write_text(json.dumps({"coordinates": list(COORDINATES), "jars": list(names)}))
    return [folder / "jars" / name for name in names]


def _resolved(coordinate: str) -> list[Path]:
    import jgo

    try:
        jars = [Path(jar) for jar in jgo.build(coordinate).all_jars]
    except Exception as error:  # whatever its HTTP client, XML parser or file system raises
        first = (str(error).splitlines() or [""])[0][:200]
        raise PeerSkippedError(f"{coordinate}: {type(error).__name__}: {first}") from error
    for jar in jars:
        if not zipfile.is_zipfile(jar):
            raise PeerSkippedError(f"{jar} is damaged: delete it and try again")
    return jars


def _last(lines: list[str]) -> str:
    """Return the root of a Java error, or the last line."""
    causes = [line for line in lines if line.startswith(("Caused by:", "Exception in thread"))]
    return (causes or lines or ["nothing was printed"])[-1].strip()[:300]
