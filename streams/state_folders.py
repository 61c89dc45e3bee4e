"""Folders that states are kept in: on this machine, or at any address that fsspec knows.

Writing puts a whole file in the place of the one before. On this machine it is written under
another name, flushed to the disk and renamed; object stores replace an object as a whole by
themselves. Elsewhere a writer that dies may leave half a file, which its reader must notice.
"""

import contextlib
import os
from pathlib import Path
from typing import Any, Protocol

from streams.errors import ConfigurationError


class StateFolder(Protocol):
    """A folder of files by name."""

    def where(self, name: str) -> str:
        """Return a file's whole name, for people."""
        ...

    def read(self, name: str) -> bytes:
        """Return a file's content; raises FileNotFoundError, or OSError."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Put a file in the place of the one before; raises OSError."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file if it is there; raises OSError."""
        ...


def open_folder(place: Path | str) -> StateFolder:
    """Return the folder at a path or at an address such as ``s3://bucket/states``.

    It is made when the first file is written.

    Raises:
        ConfigurationError: nothing is known that serves the address.
    """
    text = str(place)
    if "://" not in text:
        return LocalFolder(Path(place))
    if text.startswith("file://"):
        return LocalFolder(Path(text.removeprefix("file://")))
    return RemoteFolder(text)


class LocalFolder:
    """A folder on this machine's disks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def where(self, name: str) -> str:
        """Return a file's path."""
        return str(self._path / name)

    def read(self, name: str) -> bytes:
        """Return a file's content; raises FileNotFoundError, or OSError."""
        return (self._path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Put a file in the place of the one before; raises OSError."""
        path = self._path / name
        draft = path.with_suffix(f".{os.getpid()}.draft")
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            _sync(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    def remove(self, name: str) -> None:
        """Remove a file if it is there; raises OSError."""
        (self._path / name).unlink(missing_ok=True)


class RemoteFolder:
    """A folder at an address; its errors are OSErrors, whatever the store's client raises."""

    def __init__(self, address: str) -> None:
        from fsspec.core import url_to_fs

        self._address = address.rstrip("/")
        try:
            self._store: Any
            self._store, self._root = url_to_fs(self._address)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"states can't be kept at {address}: {error}; install the package that serves "
                "such addresses (s3fs for s3://, gcsfs for gs://), or name a folder"
            ) from error

    def where(self, name: str) -> str:
        """Return a file's address."""
        return f"{self._address}/{name}"

    def read(self, name: str) -> bytes:
        """Return a file's content; raises FileNotFoundError, or OSError."""
        with _as_os_errors(self.where(name)):
            self._store.invalidate_cache(self._root)  # another worker may have written
            return bytes(self._store.cat_file(self._at(name)))

    def write(self, name: str, content: bytes) -> None:
        """Put a file in the place of the one before; raises OSError."""
        with _as_os_errors(self.where(name)):
            self._store.makedirs(self._root, exist_ok=True)
            self._store.pipe_file(self._at(name), content)

    def remove(self, name: str) -> None:
        """Remove a file if it is there; raises OSError."""
        with _as_os_errors(self.where(name)), contextlib.suppress(FileNotFoundError):
            self._store.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


@contextlib.contextmanager
def _as_os_errors(where: str) -> Any:
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # each store's client has errors of its own
        raise OSError(f"{where}: {error!r}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
