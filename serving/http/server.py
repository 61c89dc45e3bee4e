"""The process that serves: one listener, drained when it is asked to stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import structlog

from serving.http.service import Service
from streams.errors import ConfigurationError

if TYPE_CHECKING:
    import uvicorn

BACKLOG = 2_048
KEEP_ALIVE_S = 60

_LOG = structlog.get_logger(__name__)


class Place(Protocol):
    """Where a listener is wanted."""

    @property
    def host(self) -> str:
        """The address, or a name for it."""
        ...

    @property
    def port(self) -> int:
        """The port; 0 for any free one."""
        ...


def serve(service: Service, listener: socket.socket) -> None:
    """Serve on ``listener`` until SIGTERM or SIGINT; what was asked by then is answered."""
    import uvicorn

    from serving.http.app import make_app

    limits = service.options.limits
    config = uvicorn.Config(
        make_app(service),
        access_log=False,
        log_config=None,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(limits.timeout_s) + 1,
    )
    host, port = listener.getsockname()[:2]
    _LOG.info("serving", pipeline=service.pipeline.name, host=host, port=port)
    server = uvicorn.Server(config)
    with until_drained(server):
        server.run(sockets=[listener])
    _LOG.info("served; ends")


def listen(options: Place, shared: bool = False) -> socket.socket:
    """Return the listener; ``shared``: several processes take connections of one port.

    Raises:
        ConfigurationError: the address can't be had.
    """
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        listener = socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.set_inheritable(False)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"nothing can listen on {options.host}, port {options.port} ({error}): is another "
            "process there? --port takes another one"
        ) from error
    return listener


@contextmanager
def until_drained(server: uvicorn.Server) -> Iterator[None]:
    """Have the server drain at SIGTERM and SIGINT, and the process go on behind it.

    The server's own handlers raise the signal again when all is done, and the process would end by
    it rather than with status 0.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)

    def asked(number: int, frame: FrameType | None) -> None:
        server.handle_exit(number, frame)

    @contextmanager
    def captured() -> Iterator[None]:
        before = [signal.signal(number, asked) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    server.capture_signals = captured  # type: ignore[method-assign]
    yield
