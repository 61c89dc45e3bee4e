"""Constraints of a schema of one type: which are tighter, which values fit, and in words. Pure."""

import json
from typing import Any

from streams.record_schema import DEFAULT_FACTORY, Schema

_LEAST = ("minLength", "minItems", "minProperties")
_MOST = ("maxLength", "maxItems", "maxProperties")
_LOWER = ("minimum", "exclusiveMinimum")
_UPPER = ("maximum", "exclusiveMaximum")
_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_WORDS = (*_LOWER, *_UPPER, *_LEAST, *_MOST, "multipleOf", "pattern", "contentEncoding")

_PART_OF = {
    "date-time": "any-date-time",
    "local-date-time": "any-date-time",
    "time": "any-time",
    "local-time": "any-time",
}
_FROM_NUMBERS_TOO = "decimal"


def limits(old: Schema, new: Schema) -> set[int]:
    """Return −1 where a constraint got tighter, +1 where one got looser; empty where none did."""
    found = {_moved(_lower(old), _lower(new)), _moved(_upper(old), _upper(new))}
    found |= {_moved(_as_bound(old, name, 1), _as_bound(new, name, 1)) for name in _LEAST}
    found |= {_moved(_as_bound(old, name, -1), _as_bound(new, name, -1)) for name in _MOST}
    found |= {_step(old.get("multipleOf"), new.get("multipleOf"))}
    found |= {_same_or_none(old.get("pattern"), new.get("pattern"))}
    found |= {_form(old.get("format"), new.get("format"))}
    for name in ("contentEncoding", "x-python"):
        found |= {0 if old.get(name) == new.get(name) else -1}
    return found - {0}


def takes(schema: Schema, value: Any) -> bool:
    """Return whether a plain value fits a schema of one type; False where nobody can tell."""
    if "enum" in schema:
        return any(type(value) is type(other) and value == other for other in schema["enum"])
    kind = schema.get("type")
    if isinstance(value, str):
        if kind != "string" or any(n in schema for n in ("format", "pattern", "contentEncoding")):
            return False
        return bool(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)))
    if isinstance(value, bool) or not isinstance(value, int) or kind not in ("integer", "number"):
        return False
    step = schema.get("multipleOf")
    exactly = {"type": kind, "minimum": value, "maximum": value, "multipleOf": step}
    return (step is None or value % step == 0) and -1 not in limits(exactly, schema)


def in_words(schema: Schema) -> str:
    """Return a schema of one type in a few words, such as ``integer ≥ 0``."""
    if not schema:
        return "anything"
    if "enum" in schema:
        return "one of " + ", ".join(json.dumps(v, ensure_ascii=False) for v in schema["enum"])
    if "title" in schema:
        return str(schema["title"])
    words = [str(schema.get("format") or schema.get("type") or schema)]
    words += [f"{_SIGNS.get(name, name)} {schema[name]}" for name in _WORDS if name in schema]
    return " ".join(words)


def default_in_words(field: Schema) -> str:
    """Return what a field that may be left out is read with."""
    if DEFAULT_FACTORY in field:
        return f"default made by {field[DEFAULT_FACTORY]}"
    if "default" in field:
        return f"default {json.dumps(field['default'], ensure_ascii=False)}"
    return "optional"


Bound = tuple[float, int]
"""What orders bounds by tightness: (bound, or minus an upper one; whether itself left out)."""


def _moved(was: Bound | None, now: Bound | None) -> int:
    if was == now:
        return 0
    if was is None or now is None:
        return 1 if now is None else -1
    return 1 if was > now else -1


def _lower(schema: Schema) -> Bound | None:
    return _bound(schema, _LOWER, 1)


def _upper(schema: Schema) -> Bound | None:
    return _bound(schema, _UPPER, -1)


def _bound(schema: Schema, names: tuple[str, str], sign: int) -> Bound | None:
    bounds = [_as_bound(schema, names[0], sign)]
    exclusive = schema.get(names[1])
    if exclusive is not None:
        is_whole = schema.get("type") == "integer" and isinstance(exclusive, int)
        bounds.append((exclusive * sign + 1, 0) if is_whole else (exclusive * sign, 1))
    return max((bound for bound in bounds if bound is not None), default=None)


def _as_bound(schema: Schema, name: str, sign: int) -> Bound | None:
    return (schema[name] * sign, 0) if schema.get(name) is not None else None


def _step(was: float | None, now: float | None) -> int:
    if was == now:
        return 0
    divides = was is not None and now is not None and was % now == 0
    return 1 if now is None or divides else -1


def _same_or_none(was: str | None, now: str | None) -> int:
    if was == now:
        return 0
    return 1 if now is None else -1


def _form(was: str | None, now: str | None) -> int:
    """Judge the form of a text: any is a text, but a decimal may also have been a number."""
    if was == now:
        return 0
    loosened = (now is None and was != _FROM_NUMBERS_TOO) or (
        was is not None and now is not None and _PART_OF.get(was) == now
    )
    return 1 if loosened else -1
