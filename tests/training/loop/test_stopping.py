from training.loop.stopping import Stopping


def test_stops_after_so_many_epochs_without_a_better_one() -> None:
    stopping, losses = Stopping(patience=2), [0.9, 0.7, 0.8, float("nan"), 0.1]
    assert not stopping.stops(0)
    told = []
    for epoch, loss in enumerate(losses[:4]):
        told.append((stopping.better(epoch, loss), stopping.stops(epoch + 1)))
    assert told == [(True, False), (True, False), (False, False), (False, True)]
    assert (stopping.best_epoch, stopping.best_loss) == (1, 0.7)


def test_an_equal_loss_is_not_better() -> None:
    stopping = Stopping(patience=1)
    assert stopping.better(0, 0.5)
    assert not stopping.better(1, 0.5)
    assert stopping.stops(2)


def test_losses_that_are_no_numbers_stop_too() -> None:
    stopping = Stopping(patience=2)
    assert not stopping.better(0, float("nan"))
    assert not stopping.stops(1)
    assert not stopping.better(1, float("nan"))
    assert stopping.stops(2)
