"""Which feature views a definition has online: one per entity key, each with its time to live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.aggregations import Remembering, Windowed
from features.definition import Definition, kind_of
from features.store.rows import RowLayout
from streams.errors import DefinitionError
from streams.stream import EventStream, LabelStream


@dataclass(frozen=True)
class View:
    """A feature view: what is kept online of each value of one key.

    Args:
        name: ``features_v<version>`` for the events' entity, else with ``_<field>`` behind it.
        entity: the field whose values are the keys.
        names: the features, in declared order.
        is_numeric: per feature whether it is a number; else it is a text.
        ttl_ms: for how long after its event time a row counts; None without end.
    """

    name: str
    entity: str
    names: tuple[str, ...]
    is_numeric: tuple[bool, ...]
    ttl_ms: int | None

    @property
    def layout(self) -> RowLayout:
        """How a row's values are kept."""
        kinds = list(zip(self.names, self.is_numeric, strict=True))
        texts = tuple(name for name, numeric in kinds if not numeric)
        numbers = tuple(name for name, numeric in kinds if numeric)
        return RowLayout(numbers, texts, ("String",) * len(texts))


def view_name(definition: Definition, events: EventStream, entity: str | None = None) -> str:
    """Return the name of the view of one key; of the events' own entity by default."""
    name = f"features_v{definition.version}"
    return name if entity in (None, events.entity) else f"{name}_{entity}"


def stored_name(project: str, view: str) -> str:
    """Return a view's name in an online store; several projects may share one."""
    return f"{project}.{view}"


def view_of(
    definition: Definition,
    events: EventStream,
    entity: str | None = None,
    names: Sequence[str] | None = None,
) -> View:
    """Return the view of one key.

    Args:
        definition: the features.
        events: the stream.
        entity: the key; the events' entity by default.
        names: which features it holds; by default those that the key's stage makes: its windows,
            and where there is no other key, the row features and combinations.

    Raises:
        DefinitionError: a name is no feature, or there is none for the key.
    """
    entity = entity or events.entity
    chosen = _of_key(definition, events, entity) if names is None else list(names)
    if unknown := [name for name in chosen if name not in definition.features]:
        raise DefinitionError(
            f"{unknown[0]!r} is no feature of definition v{definition.version}; it has "
            f"{', '.join(definition.features)}"
        )
    if not chosen:
        raise DefinitionError(
            f"definition v{definition.version} has no features by {entity!r}: declare one with "
            f"by={entity!r}, or leave this key out"
        )
    ordered = tuple(name for name in definition.features if name in set(chosen))
    numeric = tuple(kind_of(definition.features[name]) == "numeric" for name in ordered)
    ttl_ms = ttl_of(definition, events, ordered)
    return View(view_name(definition, events, entity), entity, ordered, numeric, ttl_ms)


def views_of(
    definition: Definition, events: EventStream, labels: LabelStream | None = None
) -> list[View]:
    """Return the views of all keys, in the order of the stages; a key without features has none."""
    return [
        view_of(definition, events, entity)
        for entity in definition.keys(events, labels)
        if _of_key(definition, events, entity)
    ]


def ttl_of(definition: Definition, events: EventStream, names: Sequence[str]) -> int | None:
    """Return for how long a row with these features says something, in milliseconds.

    After its longest window (and the window's delay and the lateness) an entity without events has
    only empty windows, so what is kept of it is wrong. A feature without a window stays true, until
    the definition forgets the entity. None where that never is, and where nothing remembers.
    """
    features = [definition.features[name] for name in names]
    remembering = [feature for feature in features if isinstance(feature, Remembering)]
    windows = [feature for feature in remembering if isinstance(feature, Windowed)]
    if not remembering or len(windows) < len(remembering):
        return definition.forget_ms
    longest_ms = max(feature.over_ms + feature.delay_ms for feature in windows)
    return longest_ms + events.lateness_ms


def _of_key(definition: Definition, events: EventStream, entity: str) -> list[str]:
    if definition.keys(events) == (entity,):
        return list(definition.features)
    return [
        name
        for name, feature in definition.features.items()
        if isinstance(feature, Remembering) and (feature.by or events.entity) == entity
    ]
