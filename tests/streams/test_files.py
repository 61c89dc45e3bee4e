"""Every way in which an input file can't be read says what, where, why and what to do."""

import gzip
import os
import zipfile
from pathlib import Path

import pytest

from streams.errors import SourceError
from streams.files import CSV, JSON_LINES, PARQUET, find_files, open_binary

ALL = (*CSV, *JSON_LINES, *PARQUET)


def content(path: Path) -> bytes:
    with open_binary(path) as file:
        return file.read()


def test_a_folder_gives_its_files_by_name(tmp_path: Path) -> None:
    for name in ("b.csv", "a.CSV", "c.jsonl", "notes.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "deeper.csv").mkdir()
    assert [p.name for p in find_files(tmp_path, ALL)] == ["a.CSV", "b.csv", "c.jsonl"]


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.csv does not exist .* give the path"):
        find_files(tmp_path / "gone.csv", ALL)


def test_a_folder_without_a_matching_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no file ending in .*\.csv.*; it holds nothing"):
        find_files(tmp_path, ALL)
    for number in range(10):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(SourceError, match=r"it holds 0\.txt, .*7\.txt and 2 more"):
        find_files(tmp_path, ALL)


def test_an_unknown_suffix(tmp_path: Path) -> None:
    path = tmp_path / "events.xlsx"
    path.write_bytes(b"x")
    with pytest.raises(SourceError, match=r"events\.xlsx can't be read: by its name .*\.parquet"):
        find_files(path, ALL)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.csv"
    path.write_text("a\n1\n")
    path.chmod(0)
    if os.geteuid() == 0:  # root may read everything: let the system's answer be what others get

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceError, match=r"events\.csv may not be read .* chmod \+r"):
        content(path)


@pytest.mark.parametrize("name", ["a.csv", "a.zip", "a.csv.gz", "a.jsonl", "a.parquet"])
def test_zero_bytes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(SourceError, match=r"is empty \(0 bytes\)"):
        content(tmp_path / name)


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_zip_with_one_csv(tmp_path: Path) -> None:
    members = {"trips.csv": b"a\n1\n", "__MACOSX/._trips.csv": b"junk", "read.me": b"hello"}
    assert content(zipped(tmp_path / "t.zip", members)) == b"a\n1\n"


def test_a_gzip(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a\n1\n"))
    assert content(tmp_path / "t.csv.gz") == b"a\n1\n"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"read.me": b"x"}, r"exactly one \.csv file but holds none; all it holds: read\.me"),
        ({"a.csv": b"x", "b.csv": b"x"}, r"holds 2 of them \(a\.csv, b\.csv\)"),
        ({}, r"holds none; all it holds: nothing"),
        ({"a.csv": b""}, r"a\.csv in it has 0 bytes"),
    ],
)
def test_a_zip_without_one_csv(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        content(zipped(tmp_path / "t.zip", members))


def test_a_file_that_is_no_zip(tmp_path: Path) -> None:
    (tmp_path / "t.zip").write_bytes(b"<html>404</html>")
    with pytest.raises(SourceError, match=r"is damaged, or not the archive .*: fetch it again"):
        content(tmp_path / "t.zip")


def test_a_zip_cut_off(tmp_path: Path) -> None:
    path = zipped(tmp_path / "t.zip", {"t.csv": os.urandom(5000)})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(SourceError, match="is damaged"):
        content(path)


def test_a_zip_with_flipped_bytes(tmp_path: Path) -> None:
    path = zipped(tmp_path / "t.zip", {"t.csv": b"a,b\n" + b"1,2\n" * 5000})
    data = bytearray(path.read_bytes())
    data[60:64] = b"\xff\x00\xff\x00"
    path.write_bytes(bytes(data))
    with pytest.raises(SourceError, match="is damaged"):
        content(path)


def test_an_encrypted_zip(tmp_path: Path) -> None:
    path = zipped(tmp_path / "t.zip", {"t.csv": b"a\n1\n"})
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[6] |= 1  # the flag "encrypted", in the local header and in the directory
    data[directory + 8] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(SourceError, match=r"t\.zip can't be read: .*encrypted"):
        content(path)


@pytest.mark.parametrize(
    "data", [b"no gzip", gzip.compress(b"a\n1\n" * 1000)[:-20]], ids=["no gzip", "cut off"]
)
def test_a_damaged_gzip(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.csv.gz").write_bytes(data)
    with pytest.raises(SourceError, match="is damaged"):
        content(tmp_path / "t.csv.gz")
