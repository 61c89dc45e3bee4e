"""How processes under a supervisor may stand, for tests."""

from infra.supervisor import ProcessStatus

STATUS = [
    ProcessStatus("features", 11, "running", 0),
    ProcessStatus("trainer", None, "waiting", 2),
]
