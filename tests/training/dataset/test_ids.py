import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from training.dataset.ids import Ids

texts = st.text(st.sampled_from("abé\0"), max_size=4)


@given(st.lists(st.lists(texts, max_size=40), max_size=5), st.lists(texts, max_size=20))
def test_numbers_by_first_appearance(pieces: list[list[str]], asked: list[str]) -> None:
    ids, known = Ids(), dict[str, int]()
    for piece in pieces:
        numbers = ids.add(pa.array(piece, pa.string()))
        assert numbers.tolist() == [known.setdefault(text, len(known)) for text in piece]
    assert len(ids) == len(known)
    found = ids.find(pa.array(asked, pa.string()))
    assert found.tolist() == [known.get(text, -1) for text in asked]


def test_grows_and_takes_slices() -> None:
    ids = Ids()
    every = pa.array([f"event {i}" for i in range(20_000)])
    assert ids.add(every.slice(5_000)).tolist() == list(range(15_000))
    assert ids.add(every).tolist() == [*range(15_000, 20_000), *range(15_000)]
    assert ids.find(every.slice(19_990)).tolist() == list(range(14_990, 15_000))
