"""The sections by name, each with the revision that it is at, for several threads."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from serving.dashboard.documents.document import Document
from serving.dashboard.documents.sections import SECTIONS

_encode = msgspec.json.Encoder().encode


class Source(Protocol):
    """What gives a section."""

    @property
    def revision(self) -> int:
        """What grows whenever the section changes."""
        ...

    def whole(self) -> Document:
        """Return the section."""
        ...


class Fixed:
    """A section that somebody puts in: for tests, and before anything is known."""

    def __init__(self, document: Document) -> None:
        self.document = document

    @property
    def revision(self) -> int:
        """The document's."""
        return self.document.revision

    def whole(self) -> Document:
        """Return the document."""
        return self.document


class Board:
    """Gives sections as JSON; what it reads is changed only under :meth:`changing`.

    ``boot`` tells this board from one that another process had: revisions count anew with it.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.boot = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._sources = {name: sources[name] for name in SECTIONS if name in sources}
        self._encoded: dict[str, tuple[int, bytes]] = {}

    @property
    def sections(self) -> list[str]:
        """The names, in the order of the page."""
        return list(self._sources)

    def changing(self) -> AbstractContextManager[bool]:
        """Return a context in which the sources may be changed."""
        return self._lock

    def put(self, section: str, document: Document) -> None:
        """Put a document in place of a section; it gets the next revision."""
        with self._lock:
            before = self._sources.get(section)
            revision = 1 if before is None else before.revision + 1
            self._sources[section] = Fixed(msgspec.structs.replace(document, revision=revision))

    def revisions(self) -> dict[str, int]:
        """Return section → revision."""
        with self._lock:
            return {name: source.revision for name, source in self._sources.items()}

    def whole(self, section: str) -> bytes:
        """Return a section as JSON; raises KeyError where there is no such one."""
        with self._lock:
            source = self._sources[section]
            held = self._encoded.get(section)
            if held is not None and held[0] == source.revision:
                return held[1]
            document = source.whole()
        encoded = _encode(document)
        self._encoded[section] = document.revision, encoded
        return encoded

    def since(self, section: str, revision: int) -> tuple[int, bytes]:
        """Return a section's revision and, as JSON, what is new in it after ``revision``.

        A section that can't tell what is new is given whole, and so is any from revision 0 on.
        """
        with self._lock:
            source = self._sources[section]
            new: Callable[[int], Document] | None = getattr(source, "since", None)
            now = source.revision
            if revision and new is not None:
                document = new(revision)
                return now, _encode(document)
        return now, self.whole(section)
