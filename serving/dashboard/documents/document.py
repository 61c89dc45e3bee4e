"""What every section of the page has in common."""

import msgspec


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What every section has: ``revision`` grows with each change of the section, from 1 on."""

    revision: int = 0
