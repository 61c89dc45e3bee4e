"""``python -m infra.health``: the health check of a worker's container.

Healthy means that the Kafka which the worker was told to use answers. A worker that hangs ends
itself (its watchdog, or the broker's session time-out), and a dead one ends its container.
"""

import sys

from infra.broker import answers
from streams.settings import Settings

TIMEOUT_S = 5.0


def main() -> int:
    """Return 0 where the configured Kafka answers, else 1, with the reason on stderr."""
    address = Settings().bootstrap_servers
    if address is None:
        print("KAFKA_BOOTSTRAP_SERVERS is not set", file=sys.stderr)
        return 1
    if not answers(address, TIMEOUT_S):
        print(f"no Kafka answers at {address}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
