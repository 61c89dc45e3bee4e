"""An entity's last events as stretches of sorted rows, against one event after the other."""

from pathlib import Path

import numpy as np
import pytest

from streams.errors import TrainingError
from training.dataset.encoded import write_slices
from training.dataset.encoding import Encoding
from training.dataset.example_set import LogColumns
from training.dataset.examples import SliceArrays
from training.dataset.histories import Histories, stretches, windows
from training.dataset.prepared import Examples, PreparedData
from training.dataset.texts import CodedTexts
from training.networks.declared import Transformer
from training.retraining.answered_rows import rows_for
from training.spec import Model


@pytest.mark.parametrize("last", [1, 3, 8])
def test_a_history_is_the_entity_s_newest_events_in_log_order(last: int) -> None:
    rng = np.random.default_rng(last)
    n = 3000
    partitions = np.sort(rng.integers(0, 3, n))
    sources = np.concatenate([_sources(rng, int(count)) for count in np.bincount(partitions)])
    entities = rng.integers(0, 12, n)  # an entity's events of two partitions stay apart
    values = rng.normal(size=(n, 2))
    found = stretches(partitions, sources, entities)
    seen: dict[tuple[int, int], list[int]] = {}
    newest: dict[int, int] = {}
    wanted = {}
    for row in range(n):
        partition = int(partitions[row])
        if sources[row] <= newest.get(partition, -1):
            assert found.places[row] == -1
            continue
        newest[partition] = int(sources[row])
        mine = seen.setdefault((partition, int(entities[row])), [])
        mine.append(row)
        wanted[row] = mine[-last:].copy()
    assert n - len(wanted) > 100
    assert sorted(found.order.tolist()) == sorted(wanted)
    chosen = rng.permutation(np.array(sorted(wanted)))[:500]
    places = found.places[chosen]
    lengths = found.lengths(places, last)
    histories = windows(values[found.order], places, lengths, last)
    assert histories.shape == (500, last, 2)
    for row, length, history in zip(chosen.tolist(), lengths.tolist(), histories, strict=True):
        assert length == len(wanted[row])
        assert (history[last - length :] == values[wanted[row]]).all()
        assert (history[: last - length] == 0).all()


def test_nothing_is_no_history() -> None:
    none = np.empty(0, np.int64)
    found = stretches(none, none, none)
    assert windows(np.empty((0, 2)), none, found.lengths(none, 4), 4).shape == (0, 4, 2)


def test_a_slice_gives_the_encoded_histories_of_its_examples(tmp_path: Path) -> None:
    data = prepared()
    model = Model(network=Transformer(last=4, width=8, heads=2))
    encoding = Encoding.fit(data.numeric_names, data.category_names, data.train)
    written = write_slices(tmp_path, data, encoding, model, 7)
    assert {"events_numeric", "train_rows", "validation_lengths"} < written.digests.keys()
    assert "train_numeric" not in written.digests
    log = data.log
    assert log is not None
    numeric = encoding.numeric_inputs(log.numeric)
    codes = encoding.codes(log.categories, len(log))
    for part, examples in (("train", data.train), ("validation", data.validation)):
        arrays = SliceArrays.open(tmp_path, part)  # type: ignore[arg-type]
        rows = np.random.default_rng(1).permutation(len(examples))[:50]
        batch = arrays.batch(rows)
        found, found_codes, lengths = batch.inputs
        assert found.shape == (50, 4, encoding.numeric_width)
        assert [str(array.dtype) for array in batch.inputs] == ["float32", "int64", "int64"]
        assert examples.log_rows is not None
        for i, own in enumerate(examples.log_rows[rows].tolist()):
            before = np.flatnonzero(
                (log.entities[: own + 1] == log.entities[own])
                & (log.places[: own + 1, 0] == log.places[own, 0])
            )[-4:]
            assert lengths[i] == len(before)
            assert (found[i, 4 - len(before) :] == numeric[before]).all()
            assert (found_codes[i, 4 - len(before) :] == codes[before]).all()
            assert not found[i, : 4 - len(before)].any()
        assert (batch.targets == examples.targets[rows]).all()


def test_a_model_is_asked_the_same_histories_as_it_has_learnt(tmp_path: Path) -> None:
    data = prepared()
    model = Model(network=Transformer(last=4, width=8, heads=2))
    encoding = Encoding.fit(data.numeric_names, data.category_names, data.train)
    write_slices(tmp_path, data, encoding, model, 7)
    numeric, codes, lengths = SliceArrays.open(tmp_path, "validation").batch(np.arange(60)).inputs
    asked = rows_for(encoding, 4, data, data.validation.some(slice(0, 60)))
    assert isinstance(asked, Histories)
    values = np.append(encoding.numeric_inputs(asked.events.numeric), np.zeros((1, 6)), 0)
    categories = encoding.codes(asked.events.categories, len(asked.events.numeric))
    assert (values[asked.index] == numeric).all()
    assert (np.append(categories, [[0]], 0)[asked.index] == codes).all()
    assert ((asked.index >= 0).sum(1) == lengths).all()


def test_rows_without_labels_and_other_entities_change_what_is_written(tmp_path: Path) -> None:
    data, model = prepared(), Model(network=Transformer(last=4, width=8, heads=2))
    encoding = Encoding.fit(data.numeric_names, data.category_names, data.train)
    first = write_slices(tmp_path, data, encoding, model, 7).digests
    assert write_slices(tmp_path, data, encoding, model, 7).digests == first
    assert data.log is not None
    assert data.train.log_rows is not None
    assert data.validation.log_rows is not None
    labelled = {*data.train.log_rows.tolist(), *data.validation.log_rows.tolist()}
    unlabelled = next(i for i in range(len(data.log)) if i not in labelled)
    data.log.numeric[unlabelled] += 1
    assert write_slices(tmp_path, data, encoding, model, 7).digests != first
    data.log.numeric[unlabelled] -= 1
    data.log.entities[unlabelled] += 1
    assert write_slices(tmp_path, data, encoding, model, 7).digests != first


def test_data_read_without_their_log_are_refused(tmp_path: Path) -> None:
    data, model = prepared(), Model(network=Transformer(last=4, width=8, heads=2))
    encoding = Encoding.fit(data.numeric_names, data.category_names, data.train)
    without = PreparedData(data.numeric_names, data.category_names, data.train, data.validation)
    with pytest.raises(TrainingError, match=r"last 4 events.*without the log"):
        write_slices(tmp_path, without, encoding, model, 7)
    write_slices(tmp_path, data, encoding, model, 7)
    write_slices(tmp_path, without, encoding, Model(), 7)  # in the folder of another network
    assert len(SliceArrays.open(tmp_path, "train").batch(np.arange(3)).inputs) == 2


def prepared() -> PreparedData:
    """Return 900 records of 2 partitions, two thirds of them labelled."""
    rng, n = np.random.default_rng(3), 900
    partitions = np.repeat([0, 1], n // 2)
    sources = np.tile(np.arange(n // 2) * 2, 2)
    kinds = CodedTexts(rng.integers(0, 4, n).astype(np.int32), ("a", "b", "c", ""))
    values = np.stack([rng.normal(size=n), np.where(rng.random(n) < 0.1, np.nan, 5.0)], axis=1)
    log = LogColumns(
        np.stack([partitions, sources], axis=1), rng.integers(0, 30, n), values, [kinds]
    )
    labelled = np.flatnonzero(rng.random(n) < 2 / 3)
    order = labelled[np.lexsort((partitions[labelled], sources[labelled]))]
    times, targets = sources[order] * 1000, rng.integers(0, 2, len(order)).astype(np.float64)

    def part(rows: slice) -> Examples:
        own = order[rows]
        return Examples(values[own], [kinds.take(own)], targets[rows], times[rows], log_rows=own)

    at = len(order) * 4 // 5
    return PreparedData(("x", "y"), ("kind",), part(slice(0, at)), part(slice(at, None)), log=log)


def _sources(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return ascending source offsets among which a crash repeated some stretches."""
    found: list[int] = []
    while len(found) < n:
        found.append(max(found, default=-1) + int(rng.integers(1, 3)))
        if rng.random() < 0.03:
            found += found[-int(rng.integers(1, 8)) :]
    return np.array(found[:n], np.int64)
