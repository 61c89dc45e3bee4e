"""Loading a pipeline file: what its text says that Python would pass over."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kappa.loading import load_pipeline
from streams.errors import DefinitionError

PIPELINE = """from msgspec import Struct
from kappa import Count, Definition, EventStream, LabelStream, Number, Pipeline, Value

class Ride(Struct):
    ride: str
    rider: str
    at: int
    long: bool = False

FEATURES = {"rides": Count("1h", "5m"), "at": Number(Value("at"))}

pipeline = Pipeline(
    name="rides",
    events=EventStream(Ride, id="ride", entity="rider", event_time="at"),
    labels=LabelStream(Ride, id="ride", entity="rider", event_time="at", target=Value("long")),
    features=Definition(version=1, features={
        "rides": Count("1h", "5m"),
        "at": Number(Value("at")),
    }),
)
"""


@pytest.fixture(autouse=True)
def _modules() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("pipe_")]:
        del sys.modules[name]


def write(folder: Path, text: str, name: str = "pipe_a.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_pipeline_without_repetitions_is_loaded(tmp_path: Path) -> None:
    pipeline = load_pipeline(str(write(tmp_path, PIPELINE)))
    assert list(pipeline.features.features) == ["rides", "at"]


def test_a_feature_declared_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    file = write(
        tmp_path, PIPELINE.replace('"at": Number(Value("at")),', '"rides": Count("2h", "5m"),')
    )
    with pytest.raises(DefinitionError, match="feature 'rides' is declared twice") as raised:
        load_pipeline(str(file))
    assert f"({file}:17 and {file}:18)" in str(raised.value)


def test_a_dictionary_with_a_name_is_looked_at_too(tmp_path: Path) -> None:
    text = PIPELINE.replace('{"rides": Count("1h", "5m"), "at"', '{"at": Count("1h", "5m"), "at"')
    assert load_pipeline(str(write(tmp_path, text))).name == "rides"  # not used
    text = text.replace("version=1, features={", "1, FEATURES) or (1, {", 1)
    with pytest.raises(DefinitionError, match="feature 'at' is declared twice"):
        load_pipeline(str(write(tmp_path, text, "pipe_b.py")))


def test_a_definition_in_another_file_is_looked_at_too(tmp_path: Path) -> None:
    write(
        tmp_path,
        "import kappa\n"
        'V1 = kappa.Definition(1, {"n": kappa.Count("1h", "5m"), "n": kappa.Count("2h", "5m")})\n',
        "pipe_features.py",
    )
    first, end = PIPELINE.index("    features=Definition"), PIPELINE.rindex(")\n")
    text = f"from pipe_features import V1\n{PIPELINE[:first]}    features=V1,\n{PIPELINE[end:]}"
    with pytest.raises(DefinitionError, match=r"'n' is declared twice \(.*pipe_features\.py:2 and"):
        load_pipeline(str(write(tmp_path, text, "pipe_c.py")))
