"""A real HTTP server that takes alerts, and answers as it is told to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from streams.wire import Alert, Window

DAY_MS = 86_400_000


class ToldServer:
    """``bodies`` and ``headers`` are those of all requests, in order; ``answers`` are the statuses
    of the next ones, 200 when there are none; ``always`` is that of all."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answers: list[int] = []
        self.always: int | None = None
        self.extra: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                status = outer.always or (outer.answers.pop(0) if outer.answers else 200)
                outer.headers.append(dict(self.headers))
                outer.paths.append(self.path)
                outer.bodies.append((status, body))
                self.send_response(status)
                for name, value in outer.extra.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def taken(self) -> list[Any]:
        """The bodies that it took."""
        return [body for status, body in self.bodies if status == 200]

    def start(self) -> None:
        """Begin to answer; until then connections are made and nobody answers."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


@contextmanager
def told_server() -> Iterator[ToldServer]:
    """Run one."""
    server = ToldServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def an_alert(number: int, state: str = "confirmed", **others: Any) -> Alert:
    """Return the record of excursion ``number`` in a state."""
    fields: dict[str, Any] = {
        "alert_id": f"a{number}-{state}",
        "kind": "data_drift",
        "metric": "psi",
        "feature": f"f{number}",
        "value": 0.41,
        "threshold": 0.25,
        "n": 6_210,
        "window": Window(18_000 * DAY_MS, 18_007 * DAY_MS),
        "model_version": 2,
        "cause": f"PSI of f{number} is 0.41",
        "offsets": {},
        "action": "retrain",
        "key": f"data_drift/psi/f{number}",
        "state": state,
    }
    return Alert(**{**fields, **others})
