"""``kappa predict``: what a user sees, for each format, and for files with bad rows."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner, Result

from features.store.columnar import open_store
from features.store.table import store_folder
from kappa.cli.main import app
from kappa.cli.predict import SOME_REFUSED
from serving.batch import given
from serving.batch.parts import Values
from serving.lab.features import rows_of_recordings
from serving.pipeline import Pipeline
from streams import tables
from streams.control import ControlWriter
from streams.errors import ConfigurationError, KappaError, SourceError
from streams.settings import Settings
from streams.sources import read_files
from streams.topics import ensure_topics
from streams.wire import Registered
from tests.serving.http.shop import DEFINITION, NOW_MS, live, new_pipeline, stored
from training.calibration import Platt, Spread, Temperature
from training.dataset.encoding import Encoding
from training.dataset.histories import EventValues, Histories
from training.networks.build import build
from training.networks.declared import Network, Tabular, Transformer
from training.networks.shape import Shape
from training.networks.tasks import Binary, MultiClass, Regression, Task
from training.package import Package, load_package, save_package
from training.reference import Reference

NUMERIC, CATEGORIES = DEFINITION.names("numeric"), DEFINITION.names("category")
LAST = 3


def save(folder: Path, network: Network, task: Task) -> str:
    rng = np.random.default_rng(2)
    rows = EventValues(
        rng.exponential(10, (200, len(NUMERIC))),
        [rng.choice(["web", "till", "10", "11"], 200).tolist() for _ in CATEGORIES],
    )
    encoding = Encoding.fit(NUMERIC, CATEGORIES, rows)
    shape = Shape(encoding.numeric_width, encoding.code_counts, network, task.outputs)
    torch.manual_seed(5)
    calibrations = {Binary: Platt(), MultiClass: Temperature(), Regression: Spread()}
    return save_package(
        folder,
        weights={name: value.numpy() for name, value in build(shape).state_dict().items()},
        shape=shape, task=task, encoding=encoding, calibration=calibrations[type(task)],
        reference=Reference.from_columns([rows], NUMERIC, CATEGORIES), metrics={},
        manifest={"definition": {"version": 1}},
    )  # fmt: skip


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A pipeline whose file lies in the folder that the commands run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAPPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAPPA_ANSWER_WITH", "cpu")
    made = new_pipeline()
    Path(f"{made.name}.py").write_text(
        "from tests.serving.http.shop import new_pipeline\n"
        f"pipeline = new_pipeline(name='{made.name}')\n"
    )
    save(Path("model"), Tabular((8,)), Binary())
    return made


def predict(pipeline: Pipeline, *arguments: str, model: str = "model") -> Result:
    command = ["predict", "-p", f"{pipeline.name}.py", "--model", model, "--json", *arguments]
    return CliRunner().invoke(app, command)


def done(result: Result, refused: int = 0) -> dict[str, Any]:
    """Return what the command says it did, having ended as it should."""
    assert result.exit_code == (SOME_REFUSED if refused else 0), result.output
    told: dict[str, Any] = json.loads(result.stdout)
    assert told["refused"] == refused
    return told


def error_of(result: Result, kind: type[KappaError]) -> str:
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def features(n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    return [
        {
            "row_id": f"r{i}", "hour": str(i % 24), "channel": ["web", "till"][i % 2],
            **{name: round(float(rng.exponential(9)), 3) for name in NUMERIC},
        }
        for i in range(n)
    ]  # fmt: skip


def scores_of(package: Package, rows: list[dict[str, Any]]) -> list[float]:
    numeric = np.array([[row[name] for name in NUMERIC] for row in rows], np.float64)
    texts = [[row[name] or "" for row in rows] for name in CATEGORIES]
    scores: list[float] = package.predict(Values(numeric, texts)).tolist()
    return scores


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    name = path.name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    if ".csv" in name:
        cells = [[("" if v is None else str(v)) for v in row.values()] for row in rows]
        text = "\n".join(",".join(line) for line in [list(rows[0]), *cells]) + "\n"
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


def read(path: Path) -> list[dict[str, Any]]:
    if path.name.endswith(".parquet"):
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.name.endswith(".gz") else data).decode()
    if path.name.endswith((".csv", ".csv.gz")):
        return list(csv.DictReader(text.splitlines()))
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("target", ["o.csv", "o.csv.gz", "o.jsonl", "o.ndjson.gz", "o.parquet"])
@pytest.mark.parametrize("source", ["i.csv", "i.csv.gz", "i.jsonl", "i.jsonl.gz", "i.parquet"])
def test_every_format_in_and_out(pipeline: Pipeline, source: str, target: str) -> None:
    rows = features(40)
    rows[3]["amount"] = None
    rows[4]["channel"] = None
    write(Path(source), rows)
    told = done(predict(pipeline, source, "--out", target))
    assert told["answered"] == 40
    assert (told["out"], told["runs_on"], told["rejects"]) == (target, "onnxruntime", None)
    found = read(Path(target))
    assert [row["row_id"] for row in found] == [row["row_id"] for row in rows]
    expected = scores_of(load_package("model"), rows)
    assert [float(row["score"]) for row in found] == expected
    assert {row["model"] for row in found} == {"model"}
    assert sorted(path.name for path in Path().iterdir() if path.name.startswith(".")) == []


def test_the_output_lies_beside_the_file_by_default(pipeline: Pipeline) -> None:
    write(Path("trips.csv.gz"), features(3))
    assert done(predict(pipeline, "trips.csv.gz"))["out"] == "trips.predictions.csv.gz"
    assert len(read(Path("trips.predictions.csv.gz"))) == 3
    result = CliRunner().invoke(
        app, ["predict", "trips.csv.gz", "-p", f"{pipeline.name}.py", "--model", "model"]
    )
    assert "3 rows answered by model model in trips.predictions.csv.gz" in result.stdout


def test_bad_cells_cost_only_their_rows(pipeline: Pipeline) -> None:
    rows = features(8)
    rows[1]["amount"] = "much"
    rows[2]["amount"] = "inf"
    rows[5]["sales_1d"] = "1 2"
    rows[6]["amount"] = " 4.5 "
    rows[7]["amount"] = "nan"
    write(Path("i.csv"), rows)
    with Path("i.csv").open("a") as file:
        file.write("torn,line\n")
    told = done(predict(pipeline, "i.csv", "--out", "o.csv"), refused=4)
    assert told["answered"] == 5
    assert [row["row_id"] for row in read(Path("o.csv"))] == ["r0", "r3", "r4", "r6", "r7"]
    refused = read(Path("o.csv.rejects.jsonl"))
    assert {(row["row"], row["reason"]) for row in refused} == {
        (None, "the line has another number of cells than the header"),
        (2, "amount: 'much' is no number"),
        (3, "amount: 'inf' is no finite number"),
        (6, "sales_1d: '1 2' is no number"),
    }
    assert any(row["record"] == "torn,line" for row in refused)
    good = [dict(rows[i]) for i in (0, 3, 4, 6, 7)]
    good[3]["amount"], good[4]["amount"] = 4.5, None
    assert [float(r["score"]) for r in read(Path("o.csv"))] == scores_of(
        load_package("model"), good
    )


def test_bad_lines_cost_only_themselves(pipeline: Pipeline) -> None:
    rows = features(4)
    lines = [json.dumps(row) for row in rows]
    lacking = {k: v for k, v in rows[0].items() if k != "amount"}
    bad = [
        "{broken", "[1, 2]", json.dumps(lacking), json.dumps({**rows[0], "amount": True}),
        json.dumps({**rows[0], "channel": ["web"]}), '{"amount": NaN}',
        json.dumps({**rows[0], "amount": 10**400}), "",
    ]  # fmt: skip
    Path("i.jsonl").write_text("\n".join([lines[0], *bad, *lines[1:]]) + "\n")
    done(predict(pipeline, "i.jsonl", "--rejects", "bad.jsonl"), refused=7)
    found = read(Path("i.predictions.jsonl"))
    assert [row["row_id"] for row in found] == ["r0", "r1", "r2", "r3"]
    reasons = {row["row"]: row["reason"] for row in read(Path("bad.jsonl"))}
    assert sorted(reasons) == [2, 3, 4, 5, 6, 7, 8]
    assert "no JSON object" in reasons[2]
    assert "lacks 'amount'" in reasons[4]
    assert "True is no number" in reasons[5]
    assert "no text" in reasons[6]
    again = done(predict(pipeline, "i.jsonl", "--rejects", "bad.jsonl"), refused=7)
    assert again["rejects"] == "bad.jsonl"
    assert len(read(Path("bad.jsonl"))) == 7  # anew, not appended


def test_rows_of_which_none_is_good(pipeline: Pipeline) -> None:
    rows = features(2)
    for row in rows:
        row["amount"] = "x"
    write(Path("i.csv"), rows)
    assert done(predict(pipeline, "i.csv"), refused=2)["out"] is None
    assert not Path("i.predictions.csv").exists()


def test_numbers_that_are_categories(pipeline: Pipeline) -> None:
    rows = features(6)
    for row in rows:
        row["hour"] = int(row["hour"])
    write(Path("i.parquet"), rows)
    done(predict(pipeline, "i.parquet"))
    texts = [{**row, "hour": str(row["hour"])} for row in rows]
    found = [row["score"] for row in read(Path("i.predictions.parquet"))]
    assert found == scores_of(load_package("model"), texts)


def test_what_is_wrong_with_the_whole_file(pipeline: Pipeline) -> None:
    rows = features(3)
    for row in rows:
        del row["amount"], row["channel"]
    for name in ("i.csv", "i.jsonl", "i.parquet"):
        write(Path(name), rows)
        message = error_of(predict(pipeline, name), SourceError)
        assert "lacks the" in message
        assert "'amount'" in message
    assert "does not exist" in error_of(predict(pipeline, "none.csv"), SourceError)
    Path("i.parquet").write_bytes(b"PAR1 no such thing")
    assert "no Parquet file" in error_of(predict(pipeline, "i.parquet"), SourceError)
    Path("i.jsonl").write_text("nothing\n")
    assert "holds no JSON objects" in error_of(predict(pipeline, "i.jsonl"), SourceError)
    Path("i.csv").write_text("amount,amount\n1,2\n")
    assert "several columns" in error_of(predict(pipeline, "i.csv"), SourceError)
    write(Path("i.csv"), features(2))
    assert "by its name" in error_of(predict(pipeline, "i.csv", "--out", "o.xls"), SourceError)
    assert "is read" in error_of(predict(pipeline, "i.csv", "--out", "i.csv"), ConfigurationError)
    both = predict(pipeline, "i.csv", "--events", "--features", "given")
    assert "both given" in error_of(both, ConfigurationError)
    assert not [path for path in Path().iterdir() if "predictions" in path.name]


def test_an_output_that_fails_halfway_is_not_there(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(given, "_BLOCK_BYTES", 10_000)
    rows = features(400)
    rows[-1]["extra"] = 1
    write(Path("i.jsonl"), rows)
    message = error_of(predict(pipeline, "i.jsonl", "--out", "o.parquet"), SourceError)
    assert "'extra' too: write JSON lines" in message
    assert not [path for path in Path().iterdir() if "o.parquet" in path.name]
    done(predict(pipeline, "i.jsonl", "--out", "o.jsonl"))
    assert read(Path("o.jsonl"))[-1]["extra"] == 1


def test_classes_and_spreads_are_told(pipeline: Pipeline) -> None:
    write(Path("i.csv"), features(5))
    save(Path("classes"), Tabular((8,)), MultiClass(("a", "b")))
    done(predict(pipeline, "i.csv", "--out", "o.jsonl", model="classes"))
    for row in read(Path("o.jsonl")):
        assert row["probability_a"] + row["probability_b"] == pytest.approx(1)
        assert row["score"] == row[f"probability_{row['class']}"]
    save(Path("regression"), Tabular((8,)), Regression())
    done(predict(pipeline, "i.csv", "--out", "o.jsonl", model="regression"))
    assert all(row["spread"] > 0 for row in read(Path("o.jsonl")))


def events_file(path: Path, n: int = 60) -> None:
    rng = np.random.default_rng(6)
    rows = [
        {
            "id": f"e{i}", "shop": f"s{i % 3}", "at_ms": NOW_MS + 60_000 * i,
            "amount": round(float(rng.exponential(10)), 2), "channel": ["web", "till"][i % 2],
        }
        for i in range(n)
    ]  # fmt: skip
    rows[7]["amount"] = -1.0  # less than the type allows
    write(path, rows)


@pytest.mark.parametrize("name", ["events.csv", "events.jsonl", "events.parquet"])
def test_events_with_their_features_computed(pipeline: Pipeline, name: str) -> None:
    events_file(Path(name))
    told = done(predict(pipeline, name, "--events", "--out", "o.jsonl"), refused=1)
    assert (told["features"], told["answered"]) == ("computed", 59)
    (refused,) = read(Path("o.jsonl.rejects.jsonl"))
    assert "ValidationError" in refused["reason"]
    assert '"e7"' in refused["record"]
    made = rows_of_recordings(lambda: read_files(Path(name), pipeline.events), pipeline, DEFINITION)
    package = load_package("model")
    expected: dict[str, float] = {}
    for rows in made():
        expected |= zip(rows.event_ids, package.predict(rows).tolist(), strict=True)
    found = read(Path("o.jsonl"))
    assert {row["event_id"]: row["score"] for row in found} == expected
    assert {row["entity"] for row in found} == {"s0", "s1", "s2"}


def test_events_for_a_model_that_sees_their_last(pipeline: Pipeline) -> None:
    save(Path("sequence"), Transformer(LAST, 8, 1, 2), Binary())
    events_file(Path("events.csv"))
    told = predict(pipeline, "events.csv", "--events", "--out", "o.jsonl", model="sequence")
    done(told, refused=1)
    found = {row["event_id"]: row["score"] for row in read(Path("o.jsonl"))}
    package = load_package("sequence")
    made = rows_of_recordings(
        lambda: read_files(Path("events.csv"), pipeline.events), pipeline, DEFINITION
    )
    parts = list(made())
    assert len(found) == 59
    for partition in {rows.partition for rows in parts}:
        own = [rows for rows in parts if rows.partition == partition]
        entities = [entity for rows in own for entity in rows.entities]
        names = [name for rows in own for name in rows.event_ids]
        values = EventValues(
            np.concatenate([rows.numeric for rows in own]),
            [[t for rows in own for t in rows.categories[c]] for c in range(len(CATEGORIES))],
        )
        for i, (name, entity) in enumerate(zip(names, entities, strict=True)):
            before = [k for k in range(i + 1) if entities[k] == entity][-LAST:]
            index = np.array([[-1] * (LAST - len(before)) + before])
            assert found[name] == package.predict(Histories(values, index))[0]
    write(Path("i.csv"), features(2))
    message = error_of(predict(pipeline, "i.csv", model="sequence"), ConfigurationError)
    assert "sees the last 3 events" in message


def test_events_with_the_windows_of_the_online_store(pipeline: Pipeline) -> None:
    store = open_store(store_folder(Settings().pipeline_home(pipeline.name)), Settings())
    windows = {"s0": {"sales_1d": 4.0, "amount_1d": 8.0}, "s1": {"sales_1d": 2.0}}
    stored(store, pipeline, windows, at_ms=NOW_MS)
    store.close()
    events_file(Path("events.csv"), 9)
    told = done(predict(pipeline, "events.csv", "--features", "store", "--out", "o.csv"), refused=1)
    assert told["answered"] == 8
    rows = []
    for event in read(Path("events.csv")):
        if event["id"] == "e7":
            continue
        kept, amount = windows.get(event["shop"], {}), float(event["amount"])
        mean = kept.get("amount_1d")
        rows.append(
            {
                "hour": "10", "channel": event["channel"], "amount": amount,
                "sales_1d": kept.get("sales_1d"), "amount_1d": mean,
                "above": amount / mean if mean else None,
            }
        )  # fmt: skip
    found = [float(row["score"]) for row in read(Path("o.csv"))]
    assert found == scores_of(load_package("model"), rows)
    (refused,) = read(Path("o.csv.rejects.jsonl"))
    assert "amount" in refused["reason"]


def test_files_are_read_in_parts(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (given, tables):
        monkeypatch.setattr(module, "_BLOCK_BYTES", 10_000)
    monkeypatch.setattr(tables, "_PARQUET_ROWS", 100)
    for name in ("i.csv", "i.jsonl.gz", "i.parquet"):
        write(Path(name), features(600))
        names = given.Names(NUMERIC, CATEGORIES)
        sizes = [len(part.asked) for part in given.parts_of_file(Path(name), names)]
        assert sum(sizes) == 600
        assert max(sizes) < 300


@pytest.mark.broker
def test_the_live_model_and_one_by_number(
    bootstrap: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    ensure_topics(bootstrap, pipeline.topic_specs)
    write(Path("i.csv"), features(3))
    assert "there is no model 0" in error_of(
        predict(pipeline, "i.csv", model="live"), ConfigurationError
    )
    writer = ControlWriter(bootstrap)
    for version in (1, 2):
        sha256 = save(Path(f"m{version}"), Tabular((4 + version,)), Binary())
        event = Registered(
            version, f"c{version}", str(Path(f"m{version}").resolve()), sha256, {}, {}, None
        )
        writer.append_model_event(pipeline.topics.models, event)
    writer.append_model_event(pipeline.topics.models, live(2))
    for name, version in (("live", 2), ("v1", 1)):
        done(predict(pipeline, "i.csv", "--out", "o.jsonl", model=name))
        rows = read(Path("o.jsonl"))
        assert {row["model"] for row in rows} == {version}
        expected = scores_of(load_package(f"m{version}"), features(3))
        assert [row["score"] for row in rows] == expected
    assert msgspec.json.encode(rows[0])
