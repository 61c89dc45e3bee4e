"""The reader for any pipeline: from files to recordings."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streams.errors import SourceError
from streams.expressions import Above
from streams.merging import concatenate
from streams.recording import Recording
from streams.sources import open_source, read_files
from streams.stream import EventStream, LabelStream


class Sale(msgspec.Struct):
    id: str
    shop: int
    at_ms: int
    price: Annotated[float, msgspec.Meta(ge=0)]
    kind: Literal["food", "other"] = "other"
    member: bool | None = None


class Return(msgspec.Struct, rename="camel"):
    sale_id: str
    shop: int
    known_ms: int
    days: float


EVENTS = EventStream(Sale, id="id", entity="shop", event_time="at_ms")
LABELS = LabelStream(
    Return, id="sale_id", entity="shop", event_time="known_ms", target=Above("days", 3)
)


def all_of(path: Path, stream: EventStream | LabelStream = EVENTS) -> list[dict[str, Any]]:
    return [json.loads(value) for part in read_files(path, stream) for value in part.values]


def times_of(path: Path) -> list[int]:
    return [time for part in read_files(path, EVENTS) for time in part.timestamps_ms.tolist()]


def reasons(recordings: list[Recording]) -> list[str | None]:
    """Return what is wrong with each event, as the feature stage will say it."""
    decoder = msgspec.json.Decoder(Sale)
    found: list[str | None] = []
    for value in (value for part in recordings for value in part.values):
        try:
            decoder.decode(value)
            found.append(None)
        except msgspec.DecodeError as error:
            found.append(str(error))
    return found


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "sales.csv"
    path.write_text(
        "shop,id,at_ms,price,note,member\n1,a,10,1.5,x,true\n2,b,20,2,,\n1,c,30,0,y,false\n"
    )
    return path


EXPECTED = [
    {"id": "a", "shop": 1, "at_ms": 10, "price": 1.5, "member": True},
    {"id": "b", "shop": 2, "at_ms": 20, "price": 2.0, "member": None},
    {"id": "c", "shop": 1, "at_ms": 30, "price": 0.0, "member": False},
]


def test_columns_become_the_types_fields(csv: Path) -> None:
    assert all_of(csv) == EXPECTED
    part = concatenate(list(read_files(csv, EVENTS)))
    assert part.timestamps_ms.tolist() == [10, 20, 30]
    assert part.keys == [b"1", b"2", b"1"]
    assert not part.is_label.any()
    assert reasons([part]) == [None, None, None]


def test_parquet_says_the_same(tmp_path: Path) -> None:
    columns = {
        name: [row[name] for row in EXPECTED] for name in ("id", "shop", "at_ms", "price", "member")
    }
    table = pa.table(columns)
    times = pa.array(columns["at_ms"]).cast(pa.timestamp("ms"))
    pq.write_table(table.set_column(2, "at_ms", times), tmp_path / "sales.parquet")
    assert all_of(tmp_path / "sales.parquet") == EXPECTED


def test_json_lines_go_in_byte_for_byte(tmp_path: Path) -> None:
    lines = [b'{"at_ms": 10, "shop":1,"id":"a","price":1, "more": [1]}', b'{"shop":2,"at_ms":20}']
    (tmp_path / "s.jsonl").write_bytes(b"\n".join([lines[0], b"", b"  " + lines[1] + b"\r"]))
    part = concatenate(list(read_files(tmp_path / "s.jsonl", EVENTS)))
    assert part.values == lines
    assert part.keys == [b"1", b"2"]
    assert part.timestamps_ms.tolist() == [10, 20]


def test_a_bad_cell_costs_its_row_only(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(
        "id,shop,at_ms,price\n"
        "a,1,10,1\n"
        "b,1,soon,1\n"  # an unparsable time
        "c,,30,1\n"  # no entity
        "d,1,,1\n"  # no time
        "e,1,50,NaN\n"
        "f,1,60,-1\n"
        "g,one,70,1\n"
        "h,1\n"  # a torn line
        "i,1,90,1\n"
    )
    recordings = list(read_files(path, EVENTS))
    assert reasons(recordings) == [
        None,
        "Expected `int`, got `null` - at `$.at_ms`",
        "Expected `int`, got `null` - at `$.shop`",
        "Expected `int`, got `null` - at `$.at_ms`",
        "Expected `float`, got `null` - at `$.price`",
        "Expected `float` >= 0.0 - at `$.price`",
        "Expected `int`, got `null` - at `$.shop`",
        None,
        "JSON is malformed: invalid character (byte 0)",
    ]
    times = np.concatenate([part.timestamps_ms for part in recordings]).tolist()
    assert times == [10, 10, 30, 30, 50, 60, 70, 90, 90]
    assert [key for part in recordings for key in part.keys][2] is None


def test_a_bad_line_of_json_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "s.ndjson"
    path.write_bytes(
        b'{"id":"a","shop":1,"at_ms":10,"price":1}\n{"id":\n{"id":"c","shop":[],"at_ms":"x"}\n'
        b'{"id":"d","shop":1,"at_ms":99999999999999999999}\n"\xff"\n{"id":"e","shop":3,"at_ms":5}\n'
    )
    part = concatenate(list(read_files(path, EVENTS)))
    assert part.timestamps_ms.tolist() == [5, 10, 10, 10, 10, 10]
    assert part.keys == [b"3", b"1", None, None, b"1", None]


def test_rows_without_any_valid_time_come_first(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("id,shop,at_ms,price\na,1,,1\nb,1,20,1\n")
    assert times_of(path) == [20, 20]
    path.write_text("id,shop,at_ms,price\na,1,,1\n")
    assert times_of(path) == [0]


def test_a_file_out_of_order_is_sorted(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).permutation(200_000)
    path = tmp_path / "s.csv"
    path.write_text("id,shop,at_ms,price\n" + "".join(f"r{row},1,{row},1\n" for row in rows))
    assert [row["at_ms"] for row in all_of(path)] == list(range(200_000))


def test_a_large_file_in_order_comes_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    count = 400_000
    path.write_text("id,shop,at_ms,price\n" + "".join(f"r{r},1,{r},1\n" for r in range(count)))
    sizes = [len(part) for part in read_files(path, EVENTS)]
    assert sum(sizes) == count
    assert max(sizes) < count / 1.5


def test_the_files_of_a_folder_are_merged(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("id,shop,at_ms,price\nb1,1,10,1\nb2,1,40,1\n")
    (tmp_path / "a.jsonl").write_text('{"id":"a1","shop":1,"at_ms":30,"price":1}\n')
    assert [row["id"] for row in all_of(tmp_path)] == ["b1", "a1", "b2"]


def test_labels_from_a_file_of_their_own(csv: Path, tmp_path: Path) -> None:
    labels = tmp_path / "returns.csv"
    labels.write_text("saleId,shop,knownMs,days\nc,1,95,1\na,1,20,4\n")
    parts = list(open_source(EVENTS, LABELS, None, [csv], [labels]))
    is_label = np.concatenate([part.is_label for part in parts]).tolist()
    assert is_label == [False, True, False, False, True]
    values = [json.loads(value) for part in parts for value in part.values]
    assert values[1] == {"saleId": "a", "shop": 1, "knownMs": 20, "days": 4.0}
    assert values[4]["saleId"] == "c"


def test_a_pipelines_own_reader_is_used_for_its_files(csv: Path) -> None:
    def read(path: Path) -> Any:
        yield Recording(np.array([15]), np.array([True]), [b"k"], [path.name.encode()])

    parts = list(open_source(EVENTS, LABELS, read, [csv]))
    assert [value for part in parts for value in part.values] == [b"sales.csv"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("s.csv", b"id,at_ms,price\na,1,1\n", "lacks the column 'shop'; it has 'id', 'at_ms'"),
        ("s.csv", b"id;shop;at_ms;price\na;1;1;1\n", "it has 'id;shop;at_ms;price'"),
        ("s.jsonl", b'{"id":"a","at_ms":1}\n', "lacks the field 'shop'; .* have 'at_ms', 'id'"),
        ("s.jsonl", b"\n \n", "is empty: it has no lines but blank ones"),
        ("s.jsonl", b"a,b\n1,2\n", "holds no JSON objects, one on each line; .*'a,b'"),
        ("s.jsonl", '{"id":"a"}\n'.encode("utf-16"), "is not UTF-8 text"),
        ("s.jsonl.gz", b"no gzip", "is damaged"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=message):
        all_of(tmp_path / name)
