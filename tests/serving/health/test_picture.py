"""The picture of a pipeline's machines, from what their processes report."""

import pytest

from serving.health.picture import HostPicture, hosts_of
from streams.wire import Vitals


def vitals(host: str, at_ms: int, **more: int | float) -> Vitals:
    known = Vitals("monitor-1", "monitor", at_ms, 0, 7, 0.1, 1 << 20, host)
    return Vitals(**{field: getattr(known, field) for field in known.__struct_fields__} | more)


def test_a_machine_is_told_by_all_of_its_processes() -> None:
    reports = [
        vitals("b", 5_000, disk_free_bytes=10),
        vitals("a", 9_000, network_in_bytes=5_000, network_out_bytes=900, gpu_busy=0.5,
               gpu_memory_bytes=12, disk_free_bytes=33),
        vitals("a", 4_000, network_in_bytes=0, network_out_bytes=100, disk_free_bytes=44),
    ]  # fmt: skip
    assert hosts_of(reports) == (
        HostPicture("a", 33, 1_000.0, 160.0, 0.5, 12),
        HostPicture("b", 10, None, None, None, None),
    )


@pytest.mark.parametrize("received", [[7], [None, None], [None, 7]])
def test_one_report_says_nothing_of_a_rate(received: list[int | None]) -> None:
    reports = [
        vitals("a", 1_000 * i, **({} if n is None else {"network_in_bytes": n}))
        for i, n in enumerate(received)
    ]
    assert [host.network_in_per_s for host in hosts_of(reports)] == [None]


def test_a_machine_that_was_started_again_has_no_negative_rate() -> None:
    reports = [vitals("a", 0, network_in_bytes=900), vitals("a", 2_000, network_in_bytes=100)]
    assert hosts_of(reports)[0].network_in_per_s == 0
