import pytest
import torch

from training.loop.averaging import Average, averaged


def test_the_average_is_the_formula_and_is_put_in_place_for_a_while() -> None:
    module = torch.nn.Linear(2, 1, bias=False)
    average, decay, seen = Average(module, 0.9), 0.9, []
    with averaged(average):
        assert average.steps == 0  # nothing to put in place yet
    for value in (1.0, 5.0, -2.0, 4.0):
        with torch.no_grad():
            module.weight.fill_(value)
        average.update()
        seen.append(value)
        weights = [decay ** (len(seen) - 1 - k) * (1 - decay) for k in range(len(seen))]
        expected = sum(w * v for w, v in zip(weights, seen, strict=True))
        expected /= 1 - decay ** len(seen)
        assert sum(weights) == pytest.approx(1 - decay ** len(seen))
        with averaged(average):
            assert module.weight.tolist() == [pytest.approx([expected] * 2, rel=1e-5)]
        assert module.weight.tolist() == [[value] * 2]
    with averaged(None):
        assert module.weight.tolist() == [[4.0] * 2]


def test_the_parameters_come_back_after_an_error() -> None:
    module = torch.nn.Linear(1, 1)
    average = Average(module, 0.5)
    average.update()
    with torch.no_grad():
        module.weight.fill_(3.0)
    with pytest.raises(RuntimeError, match="judge"), averaged(average):
        raise RuntimeError("judge")
    assert module.weight.item() == 3.0
