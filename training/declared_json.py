"""Declarations as plain JSON values, and back: what a manifest says can be trained again."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import msgspec

from streams.errors import DefinitionError, TrainingError
from training.networks.declared import Custom, Network, Tabular, Transformer
from training.networks.tasks import task_from_json, task_to_json
from training.parallel.declared import Parallel
from training.spec import Model, Training

_NETWORKS: dict[str, type[Tabular] | type[Transformer] | type[Custom]] = {
    "tabular": Tabular,
    "transformer": Transformer,
    "custom": Custom,
}
Declared = TypeVar("Declared", Model, Training)


def model_to_json(model: Model) -> dict[str, Any]:
    """Return the declaration; networks and tasks have a ``kind``."""
    return {
        **_plain(model),
        "network": _network_to_json(model.network),
        "task": task_to_json(model.task),
    }


def model_from_json(content: Mapping[str, Any]) -> Model:
    """Return the declaration of :func:`model_to_json`; raises TrainingError where it is none."""
    try:
        values = dict(content)
        network, task = dict(values.pop("network")), values.pop("task")
        parallel = msgspec.convert(values.pop("parallel"), Parallel)
        made = Model(
            **values,
            network=msgspec.convert(network, _NETWORKS[network.pop("kind")]),
            task=task_from_json(task),
            parallel=parallel,
        )
    except (KeyError, TypeError, ValueError, DefinitionError, msgspec.MsgspecError) as error:
        raise _unknown("model", error) from error
    return _whole(made, model_to_json(made), content)


def training_to_json(training: Training) -> dict[str, Any]:
    """Return the declaration."""
    return _plain(training)


def training_from_json(content: Mapping[str, Any]) -> Training:
    """Return the declaration of :func:`training_to_json`; TrainingError where it is none."""
    try:
        made = Training(**content)
    except (TypeError, DefinitionError) as error:
        raise _unknown("training", error) from error
    return _whole(made, training_to_json(made), content)


def _network_to_json(network: Network) -> dict[str, Any]:
    kind = next(name for name, made in _NETWORKS.items() if isinstance(network, made))
    return {"kind": kind, **_plain(network)}


def _plain(declared: Any) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(asdict(declared)))
    return plain


def _whole(made: Declared, says: Mapping[str, Any], content: Mapping[str, Any]) -> Declared:
    """Return ``made`` if it says what ``content`` does: nothing left out, nothing by default."""
    if says != dict(content):
        differ = sorted(
            name
            for name in {*says, *content}
            if name not in says or name not in content or says[name] != content[name]
        )
        raise _unknown(type(made).__name__.lower(), f"it differs in {', '.join(differ)}")
    return made


def _unknown(what: str, why: object) -> TrainingError:
    return TrainingError(
        f"the manifest's {what} can't be declared by this version of the code ({why}): use the "
        "version that wrote it (`code` in the manifest)"
    )
