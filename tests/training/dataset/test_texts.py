"""Coded columns give exactly what lists of the same texts give."""

import numpy as np
import pytest

from training.dataset.encoding import Encoding
from training.dataset.prepared import Examples
from training.dataset.texts import CodedTexts, counted
from training.reference import Reference

VOCABULARY = ("", "b", "a", "ü", "unused")


@pytest.fixture
def coded() -> CodedTexts:
    codes = np.random.default_rng(3).integers(0, 4, 500).astype(np.int32)
    return CodedTexts(codes, VOCABULARY)


def examples(texts: CodedTexts | list[str]) -> Examples:
    values = np.random.default_rng(1).normal(size=(500, 1))
    return Examples(values, [texts], np.zeros(500), np.arange(500))


def test_it_is_a_sequence_of_texts(coded: CodedTexts) -> None:
    texts = list(coded)
    assert len(coded) == 500
    assert [coded[i] for i in range(500)] == texts == [VOCABULARY[c] for c in coded.codes]
    assert list(coded[10:20]) == texts[10:20]
    assert list(coded.take(np.array([7, 3]))) == [texts[7], texts[3]]
    assert coded == texts
    assert counted(coded) == counted(texts)


def test_encoding_and_reference_do_not_see_the_difference(coded: CodedTexts) -> None:
    mine, theirs = examples(coded), examples(list(coded))
    fitted = [Encoding.fit(["x"], ["c"], columns) for columns in (mine, theirs)]
    assert fitted[0].to_json() == fitted[1].to_json()
    codes = [fitted[0].codes(columns.categories, 500) for columns in (mine, theirs)]
    np.testing.assert_array_equal(codes[0], codes[1])
    references = [Reference.from_columns([columns], ["x"], ["c"]) for columns in (mine, theirs)]
    assert references[0].to_json() == references[1].to_json()
    assert sum(references[0].expected["c"]) == 500


def test_some_rows_of_either_kind(coded: CodedTexts) -> None:
    rows = np.array([400, 2, 2])
    for columns in (examples(coded), examples(list(coded))):
        assert list(columns.some(rows).categories[0]) == [coded[int(i)] for i in rows]
        assert list(columns.some(slice(3, 6)).categories[0]) == list(coded)[3:6]
