"""Which versions answer, as the control log goes on; no broker."""

from serving.inference.answers import Predict, checked_answers
from serving.inference.loading import Loaded
from serving.inference.router import Role, Router
from streams.wire import (
    Activated,
    DefinitionChanged,
    ModelEvent,
    Positions,
    Registered,
    Routing,
    StageChanged,
)
from tests.serving.feature_stream import live, load, registered, rows, shadow
from training.networks.tasks import MultiClass, Regression


def router(role: Role = "inference", worker: str = "w0", broken: tuple[int, ...] = ()) -> Router:
    def loader(event: Registered) -> Predict:
        if event.version in broken:
            raise OSError("no such package")
        return load(event)

    return Router(role, worker, 0.25, Loaded(loader))


def answers(
    version: int, positions: Positions, worker: str = "w0", definition: int = 1
) -> Activated:
    """Return what a worker says when a version answers all."""
    return Activated(version, "live", worker, positions, Routing(version), definition)


def versions(router: Router) -> list[int]:
    return [chosen.version for chosen in router.answering]


def test_the_prior_answers_until_a_version_is_live() -> None:
    routed = router()
    assert versions(routed) == [0]
    assert checked_answers(routed.answering[0].predict, rows(0, [1, 2])).score.tolist() == [
        0.25,
        0.25,
    ]
    assert routed.to_announce({0: 5}) == []
    routed.follow([registered(1)])
    assert versions(routed) == [0]
    routed.follow([live(1)])
    assert versions(routed) == [1]


def test_a_shadow_worker_answers_with_all_in_shadow_and_with_none_by_default() -> None:
    routed = router("shadow")
    assert versions(routed) == []
    routed.follow([registered(2), registered(1), shadow(2, {"0": 7}), shadow(1, {})])
    assert versions(routed) == [1, 2]
    assert routed.to_announce({0: 3}) == [
        Activated(1, "shadow", "w0", {"0": 3}),
        Activated(2, "shadow", "w0", {"0": 7}),
    ]
    routed.follow([StageChanged(2, "retired", "done")])
    assert versions(routed) == [1]


def test_an_activation_is_announced_once_and_not_before_there_are_partitions() -> None:
    routed = router()
    routed.follow([registered(1), live(1)])
    assert routed.to_announce({}) == []
    news = routed.to_announce({0: 5, 1: 6})
    assert news == [answers(1, {"0": 5, "1": 6})]
    routed.announced(news)
    assert routed.to_announce({0: 50, 1: 60}) == []


def test_partitions_that_come_later_are_announced_unless_another_worker_has_done_so() -> None:
    log: list[ModelEvent] = [
        registered(1),
        live(1),
        answers(1, {"0": 5}),
        answers(1, {"1": 6}, "w1"),
    ]
    routed = router()
    routed.follow(log)
    routed.settle()
    assert routed.to_announce({0: 9, 1: 9}) == []
    assert routed.to_announce({0: 9, 1: 9, 2: 9}) == [answers(1, {"2": 9})]
    newcomer = router(worker="w2")
    newcomer.follow(log)
    newcomer.settle()
    assert newcomer.to_announce({1: 9}) == []


def test_a_second_turn_of_a_version_is_announced_anew() -> None:
    routed = router()
    routed.follow([registered(1), live(1), answers(1, {"0": 5})])
    routed.follow([registered(2), live(2), answers(2, {"0": 8}), live(1)])
    assert versions(routed) == [1]
    assert routed.to_announce({0: 9}) == [answers(1, {"0": 9})]


def test_a_broken_package_is_tried_again_only_when_registered_anew() -> None:
    tries: list[int] = []

    def loader(event: Registered) -> Predict:
        tries.append(event.version)
        if event.version == 2 and tries.count(2) == 1:
            raise OSError("no such package")
        return load(event)

    routed = Router("inference", "w0", 0.25, Loaded(loader))
    routed.follow([registered(1), live(1), registered(2), live(2)])
    assert versions(routed) == [1]
    routed.follow([answers(1, {"0": 5}, "w9")])
    assert tries.count(2) == 1
    routed.follow([registered(2)])
    assert versions(routed) == [2]


def test_with_every_package_broken_the_prior_answers() -> None:
    routed = router(broken=(1, 2))
    routed.follow([registered(1), live(1), registered(2), live(2)])
    assert versions(routed) == [0]


def test_a_version_set_aside_gives_way_to_the_one_before_which_says_so() -> None:
    routed = router()
    routed.follow([registered(1), live(1), answers(1, {"0": 5})])
    routed.follow([registered(2), live(2), answers(2, {"0": 8})])
    routed.set_aside(2, ValueError("NaN"))
    assert versions(routed) == [1]
    assert routed.to_announce({0: 9}) == [answers(1, {"0": 9})]


def by_definition(router: Router) -> dict[int, list[int]]:
    return {d: [chosen.version for chosen in router.of(d)] for d in (1, 2)}


def test_each_definition_has_a_live_version_of_its_own() -> None:
    routed = Router("inference", "w0", 0.25, Loaded(load), (1, 2))
    routed.follow([registered(1), live(1), registered(2, definition=2)])
    assert by_definition(routed) == {1: [1], 2: [0]}
    routed.follow([DefinitionChanged(1, 2, 1, 2, 2, "x"), registered(3, definition=2)])
    assert by_definition(routed) == {1: [1], 2: [2]}
    routed.follow([live(3), registered(4), live(4)])
    assert by_definition(routed) == {1: [4], 2: [3]}
    assert routed.to_announce({0: 5}, 2) == [answers(3, {"0": 5}, definition=2)]
    routed.set_aside(3, ValueError("NaN"))
    assert by_definition(routed) == {1: [4], 2: [2]}


def test_the_prior_can_be_what_answers_first_on_a_definition() -> None:
    routed = Router("inference", "w0", 0.25, Loaded(load), (1, 2))
    routed.follow([registered(1), live(1), registered(2, definition=2), live(2)])
    routed.follow([DefinitionChanged(1, 2, 1, 0, 2, "x")])
    assert by_definition(routed) == {1: [1], 2: [0]}


def test_back_on_a_definition_its_version_is_announced_anew() -> None:
    routed = Router("inference", "w0", 0.25, Loaded(load), (1, 2))
    routed.follow([registered(1), live(1), answers(1, {"0": 5})])
    routed.follow([DefinitionChanged(1, 2, 1, 0, 2, "x"), DefinitionChanged(2, 1, 2, 1, 2, "y")])
    assert routed.to_announce({0: 9}, 1) == [answers(1, {"0": 9})]


def test_a_shadow_of_a_definition_that_is_not_declared_answers_nothing() -> None:
    routed = router("shadow")
    routed.follow([registered(1, definition=2), shadow(1, {}), registered(2), shadow(2, {})])
    assert versions(routed) == [2]


def test_the_prior_answers_as_the_task_does() -> None:
    classes = MultiClass(("a", "b", "c", "d"))
    for task in (classes, Regression()):
        routed = Router("inference", "w0", 12.5, Loaded(load), task=task)
        answers = checked_answers(routed.answering[0].predict, rows(0, [1, 2]), task)
        if task is classes:
            assert answers.probabilities is not None
            assert (answers.probabilities == 0.25).all()
        else:
            assert answers.score.tolist() == [12.5, 12.5]
