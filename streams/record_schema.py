"""The JSON Schema of a record's type, exact enough to be compared with that of another version.

It says what msgspec's own schema says, and beside it what decides how a record is read but that
one leaves out: whether a time must have a zone, what a dictionary's keys are. Validators ignore
both, as they ignore formats that they do not know.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

Schema = dict[str, Any]

DEFAULT_FACTORY = "x-default-factory"
"""Names what makes a default where the default is no value."""

PLACE_OF = "x-field"
"""Names the field that stands at a place, in records written as arrays."""

_NUMBER = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
_TEXT = {"min_length": "minLength", "max_length": "maxLength", "pattern": "pattern"}
_ITEMS = {"min_length": "minItems", "max_length": "maxItems"}
_PROPERTIES = {"min_length": "minProperties", "max_length": "maxProperties"}

_TEXTS: dict[type[inspect.Type], Schema] = {
    inspect.StrType: {},
    inspect.BytesType: {"contentEncoding": "base64"},
    inspect.ByteArrayType: {"contentEncoding": "base64"},
    inspect.MemoryViewType: {"contentEncoding": "base64"},
    inspect.DateType: {"format": "date"},
    inspect.TimeDeltaType: {"format": "duration"},
    inspect.UUIDType: {"format": "uuid"},
    inspect.DecimalType: {"format": "decimal"},
}
_TIMES: dict[type[inspect.Type], str] = {
    inspect.DateTimeType: "date-time",
    inspect.TimeType: "time",
}
_SEQUENCES = (
    inspect.ListType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.VarTupleType,
    inspect.CollectionType,
)
_PLAIN_FACTORIES = (list, dict, set, frozenset, tuple, bytearray)


def schema_of(type_: Any) -> Schema:
    """Return the JSON Schema of a type that msgspec decodes.

    Equal types give equal schemas, whatever else their modules hold.

    Raises:
        TypeError: msgspec knows no such type.
    """
    made = _Schemas()
    schema = made.of(inspect.type_info(type_))
    return {**schema, "$defs": made.definitions} if made.definitions else schema


class _Schemas:
    """Turns types into schemas; records go to ``definitions``, since they may hold themselves."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self._names: dict[int, str] = {}

    def of(self, info: inspect.Type) -> Schema:
        match info:
            case inspect.Metadata():
                return self.of(info.type)
            case inspect.AnyType() | inspect.RawType():
                return {}
            case inspect.NoneType():
                return {"type": "null"}
            case inspect.BoolType():
                return {"type": "boolean"}
            case inspect.IntType():
                return {"type": "integer", **_limits(info, _NUMBER)}
            case inspect.FloatType():
                return {"type": "number", **_limits(info, _NUMBER)}
            case inspect.DateTimeType() | inspect.TimeType():
                return {"type": "string", "format": _time_format(info)}
            case inspect.EnumType():
                return _enumeration([member.value for member in info.cls])
            case inspect.LiteralType():
                return _enumeration(list(info.values))
            case inspect.UnionType():
                return {"anyOf": list(map(self.of, info.types))}
            case inspect.DictType():
                return self._dictionary(info)
            case inspect.TupleType():
                items = list(map(self.of, info.item_types))
                count = len(items)
                return {
                    "type": "array", "prefixItems": items, "items": False,
                    "minItems": count, "maxItems": count,
                }  # fmt: skip
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
                return self._reference(info)
            case inspect.NamedTupleType():
                return self._reference(info)
        if isinstance(info, _SEQUENCES):
            return {"type": "array", "items": self.of(info.item_type), **_limits(info, _ITEMS)}
        if type(info) in _TEXTS:
            return {"type": "string", **_TEXTS[type(info)], **_limits(info, _TEXT)}
        return {"x-python": repr(info)}  # a type of the user's own, read by a hook

    def _dictionary(self, info: inspect.DictType) -> Schema:
        schema = {"type": "object", "additionalProperties": self.of(info.value_type)}
        keys = self.of(info.key_type)
        if keys not in ({}, {"type": "string"}):
            schema["propertyNames"] = keys
        return {**schema, **_limits(info, _PROPERTIES)}

    def _reference(self, info: Any) -> Schema:
        if id(info) not in self._names:  # msgspec describes a type once, so identity tells types
            name, number = info.cls.__name__, 1
            while name in self.definitions:
                number += 1
                name = f"{info.cls.__name__}_{number}"
            self._names[id(info)] = name
            self.definitions[name] = {}
            self.definitions[name] = self._record(info)
        return {"$ref": f"#/$defs/{self._names[id(info)]}"}

    def _record(self, info: Any) -> Schema:
        fields: tuple[inspect.Field, ...] = info.fields
        title = {"title": info.cls.__name__}
        is_array = isinstance(info, inspect.NamedTupleType) or getattr(info, "array_like", False)
        forbids = getattr(info, "forbid_unknown_fields", False)
        tag: Schema = {"const": info.tag} if getattr(info, "tag", None) is not None else {}
        if is_array:
            items = [{PLACE_OF: f.name, **self._field(f)} for f in fields]
            least = sum(f.required for f in fields)
            if tag:
                items, least = [tag, *items], least + 1
            most = {"maxItems": len(items)} if forbids else {}
            return {**title, "type": "array", "prefixItems": items, "minItems": least, **most}
        properties = {f.encode_name: self._field(f) for f in fields}
        required = [f.encode_name for f in fields if f.required]
        if tag:
            properties = {info.tag_field: tag, **properties}
            required = [info.tag_field, *required]
        schema = {**title, "type": "object", "properties": properties, "required": required}
        return {**schema, "additionalProperties": False} if forbids else schema

    def _field(self, field: inspect.Field) -> Schema:
        schema = self.of(field.type)
        if field.required:
            return schema
        default = field.default
        factory = field.default_factory
        if default is msgspec.NODEFAULT and factory in _PLAIN_FACTORIES:
            default = factory()
        if default is msgspec.UNSET or (default is factory is msgspec.NODEFAULT):
            return schema
        if default is msgspec.NODEFAULT:
            return {**schema, DEFAULT_FACTORY: getattr(factory, "__qualname__", repr(factory))}
        plain = msgspec.to_builtins(default, str_keys=True, order="deterministic")
        return {**schema, "default": plain}


def _limits(info: Any, names: Mapping[str, str]) -> Schema:
    limits = ((name, getattr(info, attribute, None)) for attribute, name in names.items())
    return {name: limit for name, limit in limits if limit is not None}


def _time_format(info: Any) -> str:
    zones = {True: "", False: "local-", None: "any-"}
    return f"{zones[info.tz]}{_TIMES[type(info)]}"


def _enumeration(values: list[Any]) -> Schema:
    def by_type(value: Any) -> tuple[str, Any]:
        return type(value).__name__, 0 if value is None else value

    return {"enum": sorted(values, key=by_type)}
