"""Finds input files and opens them; every way in which that fails is a SourceError with its fix."""

import gzip
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

from streams.errors import SourceError

CSV = (".csv", ".csv.gz", ".zip")
JSON_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
PARQUET = (".parquet",)


def find_files(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return ``path`` itself, or where it is a folder, its files with ``suffixes``, by name.

    Raises:
        SourceError: nothing is there, nothing in it fits, it can't be listed, or another suffix.
    """
    wanted = ", ".join(suffixes)
    with reading(path):
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.is_file() and has_suffix(p, suffixes))
            if not files:
                there = sorted(p.name for p in path.iterdir())
                raise SourceError(
                    f"the folder {path} holds no file ending in {wanted}; "
                    f"it holds {_some(there) if there else 'nothing'}"
                )
            return files
        if not path.exists():
            raise SourceError(
                f"{path} does not exist (looked in {Path.cwd()}): give the path of a file or "
                f"folder with {wanted}"
            )
    if not has_suffix(path, suffixes):
        raise SourceError(
            f"{path} can't be read: by its name it is none of {wanted}; convert it, or rename it "
            "where only the name is wrong"
        )
    return [path]


def has_suffix(path: Path, suffixes: Sequence[str]) -> bool:
    """Return whether the file's name ends in one of ``suffixes``, in any case of letters."""
    return path.name.lower().endswith(tuple(suffixes))


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """Open the file's content: a gzip or a zip with one CSV file in it is unpacked on the way.

    Raises:
        SourceError: it is empty, unreadable, damaged, or a zip without exactly one CSV file.
    """
    with reading(path):
        if path.stat().st_size == 0:
            raise SourceError(f"{path} is empty (0 bytes): was its download or export cut off?")
        if has_suffix(path, (".zip",)):
            with zipfile.ZipFile(path) as archive, archive.open(_csv_member(path, archive)) as file:
                yield file
        elif has_suffix(path, (".gz",)):
            with path.open("rb") as packed, gzip.open(packed) as unpacked:
                yield cast(IO[bytes], unpacked)
        else:
            with path.open("rb") as plain:
                yield plain


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what can go wrong while reading ``path`` into SourceError."""
    try:
        yield
    except PermissionError as error:
        raise SourceError(
            f"{path} may not be read by this user (permission denied): allow it, for example "
            f"with chmod +r"
        ) from error
    except (zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise SourceError(
            f"{path} is damaged, or not the archive that its name says ({error}): fetch it again"
        ) from error
    except pa.ArrowInvalid as error:
        raise SourceError(_arrow_message(path, error)) from error
    except (OSError, RuntimeError, NotImplementedError) as error:
        # zipfile says RuntimeError of encrypted members, NotImplementedError of odd compression
        raise SourceError(f"{path} can't be read: {error}") from error


def not_utf8(path: Path) -> SourceError:
    """Return the error of a file in another encoding."""
    return SourceError(
        f"{path} is not UTF-8 text: convert it, for example with "
        f"iconv -f latin1 -t utf-8 {path.name} > utf8-{path.name}"
    )


def _csv_member(path: Path, archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if not name.endswith("/")]
    tables = [
        name for name in names if name.lower().endswith(".csv") and not name.startswith("__MACOSX/")
    ]
    if len(tables) != 1:
        found = f"{len(tables)} of them ({_some(tables)})" if tables else "none"
        raise SourceError(
            f"{path} should hold exactly one .csv file but holds {found}; all it holds: "
            f"{_some(names) if names else 'nothing'}. Pack one CSV file per zip"
        )
    if archive.getinfo(tables[0]).file_size == 0:
        raise SourceError(f"{path} is empty: {tables[0]} in it has 0 bytes")
    return tables[0]


def _arrow_message(path: Path, error: pa.ArrowInvalid) -> str:
    if "UTF8" in str(error):
        return str(not_utf8(path))
    if has_suffix(path, PARQUET):
        return f"{path} is damaged, or no Parquet file ({error}): fetch or write it again"
    return f"{path} can't be read as a table: {error}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
