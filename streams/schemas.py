"""What changed between two versions of a record's type, and whether the log can still be read.

Compatible is a change after which every record that the old type takes is taken by the new one
too, since a replay reads old records by the new type; and after which what still runs with the old
type takes new records that lack a field. Pure; schemas are those of :mod:`streams.record_schema`.

What no schema can tell: a record may hold a field that its type does not know and ignores. Where a
later version adds a field of that name, such a record is read with what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from streams.record_schema import DEFAULT_FACTORY, PLACE_OF, Schema
from streams.schema_limits import default_in_words, in_words, limits, takes

Breaks = Literal["", "old records", "old readers"]
"""Who can't go on: old records under the new type, or what still runs with the old type."""

Rereads = Literal["", "text", "value"]
"""How an old record may be read as something else: a number's text only, or the value itself."""

Kind = Literal["added", "removed", "widened", "narrowed", "optional", "required", "default"]

_NEW_FIELD = "leave it as it was and put new values into a new field with a default"
_OTHER_LOG = "or give the pipeline another name, which begins a new log"
_STRENGTH: tuple[Rereads, ...] = ("", "text", "value")


@dataclass(frozen=True)
class Change:
    """One difference at one field; ``field`` is a path such as ``address.street`` or ``tags[]``.

    ``was`` and ``now`` are for people. ``remedy`` says what to do where something breaks.
    """

    field: str
    kind: Kind
    was: str
    now: str
    breaks: Breaks = ""
    rereads: Rereads = ""
    remedy: str = ""

    @property
    def compatible(self) -> bool:
        """Whether the log, and all that reads it, can go on."""
        return not self.breaks

    @property
    def top(self) -> str:
        """The field of the record itself in which the change lies."""
        return self.field.partition(".")[0].partition("[")[0].partition("{")[0]


def compare_schemas(old: Schema, new: Schema) -> list[Change]:
    """Return every difference, in the order of the old type's fields, then the new one's.

    What only describes (names of types, the order of fields) is no difference. A pattern that
    differs counts as narrower, as nobody can tell.
    """
    return _Comparison(old.get("$defs", {}), new.get("$defs", {})).between(old, new, "")


class _Comparison:
    """Walks two schemas at once; ``_open`` are the pairs of types that are being compared."""

    def __init__(self, old: dict[str, Schema], new: dict[str, Schema]) -> None:
        self._old, self._new = old, new
        self._open: list[tuple[str, str]] = []

    def between(self, old: Schema, new: Schema, path: str) -> list[Change]:
        """Return the changes at and below one place; of the place's own type at most one."""
        pair = (old.get("$ref", ""), new.get("$ref", ""))
        if pair in self._open and all(pair):
            return []  # a type that holds itself: it is being compared further up
        self._open.append(pair)
        try:
            return self._alternatives(old, new, path)
        finally:
            self._open.pop()

    def _alternatives(self, old: Schema, new: Schema, path: str) -> list[Change]:
        news = list(_split(new, self._new))
        found: list[Change] = []
        used: set[int] = set()
        is_lost = False
        for one in _split(old, self._old):
            fits = [(self._pair(one, other, path), i) for i, other in enumerate(news)]
            related = [(changes, i) for changes, i in fits if changes is not None]
            if related:
                changes, i = min(related, key=lambda fit: _cost(fit[0]))
                found += changes
                used.add(i)
            else:
                is_lost = True
        own = [change for change in found if change.field == path]
        inner = [change for change in found if change.field != path]
        if is_lost or any(change.breaks for change in own):
            own = [self._narrowed(old, new, path)]
        elif own or len(used) < len(news):
            was, now = self._words(old, new)
            own = [Change(path, "widened", was, now, rereads=_strongest(own))]
        return own + inner

    def _pair(self, old: Schema, new: Schema, path: str) -> list[Change] | None:
        """Return what changes from one alternative to another; None where they are no relations."""
        wider = Change(path, "widened", "", "")
        if not new:
            return [replace(wider, rereads=_form_of(old))] if old else []
        if not old:
            return None
        if "enum" in old:
            if all(takes(new, value) for value in old["enum"]):
                return [] if new.get("enum") == old["enum"] else [wider]
            return [self._narrowed(old, new, path)] if "enum" in new else None
        if "enum" in new:
            return None
        moved = limits(old, new)
        if (old.get("type"), new.get("type")) == ("integer", "number"):
            is_narrower = -1 in moved
            return [
                self._narrowed(old, new, path) if is_narrower else replace(wider, rereads="text")
            ]
        if old.get("type") != new.get("type"):
            return None
        if "properties" in old or "properties" in new:
            if not ("properties" in old and "properties" in new) or _tag(old) != _tag(new):
                return None
            return self._records(old, new, path)
        own: list[Change] = []
        if -1 in moved:
            own = [self._narrowed(old, new, path)]
        elif moved:
            own = [replace(wider, rereads="" if "format" in new else _form_of(old))]
        return own + self._inside(old, new, path)

    def _inside(self, old: Schema, new: Schema, path: str) -> list[Change]:
        """Return the changes of the items of a sequence, or of a dictionary's keys and values."""
        if "prefixItems" in old or "prefixItems" in new:
            return self._places(old, new, path)
        changes: list[Change] = []
        for name, sign in (
            ("items", "[]"), ("propertyNames", "{key}"), ("additionalProperties", "{}"),
        ):  # fmt: skip
            if name in old or name in new:
                default = {"type": "string"} if name == "propertyNames" else {}
                one, other = old.get(name, default), new.get(name, default)
                changes += self.between(one, other, path + sign)
        return changes

    def _places(self, old: Schema, new: Schema, path: str) -> list[Change]:
        """Compare sequences whose places have types of their own; their numbers are limits."""
        olds, news = old.get("prefixItems", []), new.get("prefixItems", [])
        changes: list[Change] = []
        for i in range(max(len(olds), len(news))):
            at = f"{path}[{i}]"
            one = olds[i] if i < len(olds) else old.get("items", {})
            other = news[i] if i < len(news) else new.get("items", {})
            if one is False or other is False:
                continue
            if i >= max(len(olds), new.get("minItems", 0)) and not one:
                now = f"{self._is(other)}, {default_in_words(other)}"
                changes.append(Change(at, "added", "absent", now))
            elif i < len(news) and i < len(olds) and one.get(PLACE_OF) != other.get(PLACE_OF):
                was, now = f"the field {one.get(PLACE_OF)}", f"the field {other.get(PLACE_OF)}"
                changes.append(
                    Change(at, "narrowed", was, now, "old records", "value", f"keep {was} there")
                )
            else:
                changes += self.between(one, other, at)
        return changes

    def _records(self, old: Schema, new: Schema, path: str) -> list[Change]:
        required, demanded = set(old["required"]), set(new["required"])
        forbade, forbids = (s.get("additionalProperties") is False for s in (old, new))
        prefix = f"{path}." if path else ""
        changes: list[Change] = []
        for name, field in old["properties"].items():
            other, at = new["properties"].get(name), prefix + name
            if other is None:
                changes.append(self._removed(at, field, name in required, forbids))
            else:
                changes += self.between(field, other, at)
                changes += _presence(at, field, other, (name in required, name in demanded))
        for name, field in new["properties"].items():
            if name not in old["properties"]:
                changes.append(self._added(prefix + name, field, name in demanded))
        if forbids and not forbade:
            changes.append(_forbidden(prefix))
        elif forbade and not forbids:
            changes.append(Change(f"{prefix}*", "widened", "forbidden", "unknown fields ignored"))
        return changes

    def _removed(self, at: str, field: Schema, was_required: bool, forbids: bool) -> Change:
        was = f"{self._was(field)}, {'required' if was_required else default_in_words(field)}"
        if forbids:
            fix = f"leave forbid_unknown_fields away, so that it is ignored, {_OTHER_LOG}"
            return Change(at, "removed", was, "forbidden", "old records", remedy=fix)
        if was_required:
            fix = (
                "give it a default first and start every process so; remove it after that, "
                f"{_OTHER_LOG}"
            )
            return Change(at, "removed", was, "absent", "old readers", remedy=fix)
        return Change(at, "removed", was, "ignored")

    def _added(self, at: str, field: Schema, is_required: bool) -> Change:
        now = self._is(field)
        if is_required:
            fix = f"give it a default, which old records are then read with, {_OTHER_LOG}"
            return Change(at, "added", "absent", f"{now}, required", "old records", remedy=fix)
        return Change(at, "added", "absent", f"{now}, {default_in_words(field)}")

    def _narrowed(self, old: Schema, new: Schema, path: str) -> Change:
        was, now = self._words(old, new)
        fix = f"{_NEW_FIELD}, {_OTHER_LOG}"
        return Change(path, "narrowed", was, now, "old records", "value", fix)

    def _words(self, old: Schema, new: Schema) -> tuple[str, str]:
        return self._was(old), self._is(new)

    def _was(self, schema: Schema) -> str:
        return _in_words(schema, self._old)

    def _is(self, schema: Schema) -> str:
        return _in_words(schema, self._new)


def _forbidden(prefix: str) -> Change:
    fix = (
        "leave forbid_unknown_fields away: records in the log may have more fields than the type, "
        f"{_OTHER_LOG}"
    )
    was = "unknown fields ignored"
    return Change(f"{prefix}*", "narrowed", was, "forbidden", "old records", remedy=fix)


def _presence(at: str, old: Schema, new: Schema, required: tuple[bool, bool]) -> list[Change]:
    """Return the change of whether a field must be there, or of what it is read with."""
    was, now = default_in_words(old), default_in_words(new)
    if required == (False, True):
        fix = f"leave it its default: old records may lack it, {_OTHER_LOG}"
        return [Change(at, "required", was, "required", "old records", remedy=fix)]
    if required == (True, False):
        return [Change(at, "optional", "required", now)]
    if required == (False, False) and was != now:
        return [Change(at, "default", was, now, rereads="value")]
    return []


def _split(schema: Schema, definitions: dict[str, Schema]) -> Iterator[Schema]:
    """Yield the alternatives of a schema; each has one type, and refers to no other place."""
    if "$ref" in schema:
        yield from _split(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions)
    elif "anyOf" in schema:
        for part in schema["anyOf"]:
            yield from _split(part, definitions)
    elif "const" in schema:
        yield {"enum": [schema["const"]]}
    elif "enum" in schema:
        by_type: dict[type, list[Any]] = {}
        for value in schema["enum"]:
            by_type.setdefault(type(value), []).append(value)
        for type_, values in by_type.items():
            yield {"type": "null"} if type_ is type(None) else {"enum": values}
    else:
        told = ("default", DEFAULT_FACTORY, PLACE_OF, "$defs")
        yield {key: value for key, value in schema.items() if key not in told}


def _in_words(schema: Schema, definitions: dict[str, Schema]) -> str:
    return " or ".join(dict.fromkeys(map(in_words, _split(schema, definitions))))


def _tag(record: Schema) -> tuple[str, Any] | None:
    """Return the field and value by which a record says which of several types it has."""
    for name, field in record["properties"].items():
        if "const" in field:
            return (name, field["const"])
    return None


def _form_of(schema: Schema) -> Rereads:
    """Return what is read otherwise where a value becomes one without a form of its own."""
    scalar = schema.get("type") not in ("object", "array") and "x-python" not in schema
    return "" if scalar and not ("format" in schema or "contentEncoding" in schema) else "value"


def _strongest(changes: list[Change]) -> Rereads:
    return max((change.rereads for change in changes), key=_STRENGTH.index, default="")


def _cost(changes: list[Change]) -> tuple[bool, int]:
    return any(change.breaks for change in changes), len(changes)
