"""Bike trips: what the files say, told in the order in which it happened."""

import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from examples.citibike import TripEnd, TripStart, pipeline
from examples.citibike_source import read
from streams.errors import SourceError
from streams.merging import concatenate
from streams.recording import Recording

HEADER = (
    "tripduration,starttime,stoptime,start station id,end station id,bikeid,usertype,birth year"
)


def months(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "JC-201911-citibike-tripdata.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("JC-201911-citibike-tripdata.csv", "\n".join([HEADER, *rows]) + "\n")
    return path


def split(recording: Recording) -> tuple[list[bytes], list[bytes]]:
    pairs = list(zip(recording.is_label.tolist(), recording.values, strict=True))
    return [v for label, v in pairs if not label], [v for label, v in pairs if label]


def utc(text: str) -> int:
    return int(pd.Timestamp(text).value // 1_000_000)


def test_a_trip_is_an_event_at_its_start_and_a_label_at_its_end(tmp_path: Path) -> None:
    row = "342,2019-11-01 01:01:29.3390,2019-11-01 01:07:11.8340,3186,3203,29535,Subscriber,1985"
    whole = concatenate(list(read(months(tmp_path, row))))
    start = utc("2019-11-01T01:01:29.339-04:00")
    assert whole.values == [
        b'{"trip_id":"29535-%d","station":"3186","bike":"29535","user_type":"Subscriber",'
        b'"started_at_ms":%d}' % (start, start),
        b'{"trip_id":"29535-%d","station":"3186","ended_at_ms":%d,"duration_s":342.0}'
        % (start, start + 342_000),
    ]
    assert whole.keys == [b"3186", b"3186"]
    assert whole.timestamps_ms.tolist() == [start, start + 342_000]


def test_nothing_that_is_known_only_at_the_end_is_in_the_event() -> None:
    names = {field.name for field in msgspec.structs.fields(TripStart)}
    assert names == {"trip_id", "station", "bike", "user_type", "started_at_ms"}


@pytest.mark.parametrize(
    ("duration_s", "start", "stop", "expected"),
    [
        # clocks went back at 02:00 on 2019-11-03: 01:00 to 02:00 happened twice
        (1313, "2019-11-03 01:48:40.548", "2019-11-03 02:10:34.036", "01:48:40.548-05:00"),
        (4913, "2019-11-03 01:48:40.548", "2019-11-03 02:10:34.036", "01:48:40.548-04:00"),
        (4200, "2019-11-03 01:20:00.000", "2019-11-03 01:30:00.500", "01:20:00.000-04:00"),
        # both readings fit, since the trip lies within the hour: the first is taken
        (342, "2019-11-03 01:01:29.339", "2019-11-03 01:07:11.834", "01:01:29.339-04:00"),
        (1575, "2019-11-03 00:52:53.122", "2019-11-03 01:19:08.224", "00:52:53.122-04:00"),
        # clocks went forward at 02:00 on 2020-03-08: 02:00 to 03:00 did not happen
        (900, "2020-03-08 02:30:00.000", "2020-03-08 03:45:00.700", "03:30:00.000-04:00"),
        (900, "2020-03-08 02:30:00.000", "2020-03-08 01:45:00.700", "01:30:00.000-05:00"),
        (4500, "2020-03-08 01:30:00.000", "2020-03-08 03:45:00.700", "01:30:00.000-05:00"),
        # no stop time to compare with: the first reading
        (1313, "2019-11-03 01:48:40.548", "", "01:48:40.548-04:00"),
    ],
)
def test_clock_changes(
    tmp_path: Path, duration_s: int, start: str, stop: str, expected: str
) -> None:
    path = months(tmp_path, f"{duration_s},{start},{stop},3186,3203,29535,Subscriber,1985")
    events, labels = split(concatenate(list(read(path))))
    started = utc(f"{start[:10]}T{expected}")
    assert msgspec.json.decode(events[0], type=TripStart).started_at_ms == started
    assert msgspec.json.decode(labels[0], type=TripEnd).ended_at_ms == started + duration_s * 1000


def test_bad_rows_reach_the_log_and_cost_only_themselves(tmp_path: Path) -> None:
    day = "2019-11-05"
    path = months(
        tmp_path,
        f"100,{day} 10:00:00.0000,{day} 10:01:40.0000,1,2,10,Subscriber,1985",
        f"100,noon,{day} 10:01:40.0000,1,2,11,Subscriber,1985",
        f"-50,{day} 10:02:00.0000,{day} 10:01:10.0000,1,2,12,Customer,1985",
        f"NaN,{day} 10:03:00.0000,{day} 10:04:40.0000,1,2,13,Customer,1985",
        f"100,{day} 10:05:00.0000,{day} 10:06:40.0000,,2,14,Customer,1985",
        f"100,{day} 10:07:00.0000,{day} 10:08:40.0000,1,2,15,Member,1985",
        "100,torn",
        f"100,{day} 10:09:00.0000,{day} 10:10:40.0000,1,2,16,Customer,1985",
    )
    whole = concatenate(list(read(path)))
    events, labels = split(whole)
    assert _reasons(events, TripStart) == [
        None,
        "Expected `str`, got `null` - at `$.trip_id`",
        None,
        None,
        "Expected `str`, got `null` - at `$.station`",
        "Invalid enum value 'Member' - at `$.user_type`",
        None,
        "Expected `object`, got `int`",
    ]
    found = dict(zip(_ids(labels), _reasons(labels, TripEnd), strict=True))
    assert sorted(map(str, found.values())) == [
        "Expected `float` >= 0.0 - at `$.duration_s`",
        "Expected `int`, got `null` - at `$.ended_at_ms`",
        "Expected `str`, got `null` - at `$.station`",
        "Expected `str`, got `null` - at `$.trip_id`",
        "None",
        "None",
        "None",
    ]
    first, negative = utc(f"{day}T10:00:00-05:00"), utc(f"{day}T10:02:00-05:00")
    times = dict(zip(whole.values, whole.timestamps_ms.tolist(), strict=True))
    assert times[events[1]] == first
    assert [times[label] for label in labels if b'"duration_s":-50.0' in label] == [negative]
    assert bool((np.diff(whole.timestamps_ms) >= 0).all())


def test_a_folder_is_read_by_name_whatever_the_months_overlap(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(
        f"{HEADER}\n9000,2019-11-30 23:00:00.0000,2019-12-01 01:30:00.0000,1,2,10,Customer,1\n"
    )
    (tmp_path / "c.csv").write_text(
        f"{HEADER}\n60,2019-12-01 00:30:00.0000,2019-12-01 00:31:00.0000,1,2,11,Customer,1\n"
    )
    whole = concatenate(list(read(tmp_path)))
    assert [bool(label) for label in whole.is_label] == [False, False, True, True]
    assert [value[12:14] for value in whole.values] == [b"10", b"11", b"11", b"10"]


@pytest.mark.parametrize("start", ["2019-11-05T10:00:00Z", "2019-11-05 10:00+02:00", "11/5/2019"])
def test_a_start_that_is_no_local_time_is_unknown(tmp_path: Path, start: str) -> None:
    path = months(
        tmp_path,
        "100,2019-11-05 10:00:00.0000,2019-11-05 10:01:40.0000,1,2,10,Subscriber,1985",
        f"1e300,{start},2019-11-05 10:01:40.0000,1,2,11,Subscriber,1985",
    )
    events, labels = split(concatenate(list(read(path))))
    assert b'"started_at_ms":null' in events[1]
    assert b'"ended_at_ms":null' in labels[0] + labels[1]


def test_a_missing_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ride_id,started_at\n1,2\n")
    with pytest.raises(SourceError, match=r"lacks the columns 'tripduration', .*it has 'ride_id'"):
        list(read(tmp_path))


def _reasons(values: list[bytes], type_: type[msgspec.Struct]) -> list[str | None]:
    found: list[str | None] = []
    for value in values:
        try:
            msgspec.json.decode(value, type=type_)
            found.append(None)
        except msgspec.DecodeError as error:
            found.append(str(error))
    return found


def _ids(values: list[bytes]) -> list[str]:
    return [str(msgspec.json.decode(value)["trip_id"]) for value in values]


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Recording:
    return concatenate(list(read(shared_data / "citibike_jc")))


@pytest.fixture(scope="module")
def trips(shared_data: Path) -> pd.DataFrame:
    """The files as pandas reads them, with nothing of the pipeline's own code."""
    files = sorted((shared_data / "citibike_jc").glob("*.zip"))
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True)


@pytest.mark.data
def test_all_real_trips_are_told_in_order(real: Recording) -> None:
    events, labels = split(real)
    assert len(events) == len(labels) == 411_876
    assert bool((np.diff(real.timestamps_ms) >= 0).all())
    starts = msgspec.json.decode(b"[" + b",".join(events) + b"]", type=list[TripStart])
    ends = msgspec.json.decode(b"[" + b",".join(labels) + b"]", type=list[TripEnd])
    ids = {start.trip_id for start in starts}
    assert len(ids) == 411_876
    assert ids == {end.trip_id for end in ends}
    assert [s.started_at_ms for s in starts] == real.timestamps_ms[~real.is_label].tolist()
    assert [e.ended_at_ms for e in ends] == real.timestamps_ms[real.is_label].tolist()
    assert np.mean([pipeline.labels.target.evaluate({"duration_s": [e.duration_s for e in ends]})])


@pytest.mark.data
def test_real_times_are_those_of_pandas_and_agree_with_the_stop_times(
    real: Recording, trips: pd.DataFrame
) -> None:
    events, labels = split(real)
    starts = pd.DataFrame(msgspec.json.decode(b"[" + b",".join(events) + b"]"))
    ends = pd.DataFrame(msgspec.json.decode(b"[" + b",".join(labels) + b"]"))
    joined = starts.merge(ends, on="trip_id", validate="one_to_one")
    joined["local"] = (
        pd.to_datetime(joined.started_at_ms, unit="ms", utc=True)
        .dt.tz_convert("America/New_York").dt.tz_localize(None)
    )  # fmt: skip
    trips = trips.assign(bike=trips.bikeid.astype(str), local=pd.to_datetime(trips.starttime))
    both = trips.merge(joined, on=["bike", "local"], validate="one_to_one")
    assert len(both) == 411_876  # every trip is there under its own bike and local start time
    assert (both.tripduration == both.duration_s).all()
    assert (both.usertype == both.user_type).all()
    assert (both["start station id"].astype(str) == both.station_x).all()
    # The proof of the right reading at clock changes: start + duration is the stop time there,
    # but for the fraction of a second that the duration leaves out.
    stop = (
        pd.to_datetime(both.ended_at_ms, unit="ms", utc=True)
        .dt.tz_convert("America/New_York").dt.tz_localize(None)
    )  # fmt: skip
    beyond = (pd.to_datetime(both.stoptime) - stop).dt.total_seconds()
    assert beyond.between(0, 1.001).mean() > 0.99999
    assert set(both[~beyond.between(0, 1.001)].trip_id) == set()
    second_time_around = both[
        both.local.between("2019-11-03 01:00", "2019-11-03 02:00")
        & (both.started_at_ms >= utc("2019-11-03T01:00-05:00"))
    ]
    assert len(second_time_around) == 4
