import numpy as np
import pytest

from serving.alerting.onset import first_shifted


@pytest.mark.parametrize("began", range(7))
def test_the_step_at_which_a_change_began_is_found(began: int) -> None:
    rng = np.random.default_rng(began)
    usual, changed = np.full(10, 0.1), np.array([0.25, *[0.075] * 9, 0.075][:10])
    steps = [rng.multinomial(1_000, usual if i < began else changed / changed.sum())
             for i in range(7)]  # fmt: skip

    assert first_shifted(np.full(10, 5_000), np.stack(steps)) == began
