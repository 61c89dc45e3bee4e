"""Traces: one span per hop for records whose ``traceparent`` is sampled; nothing for all others.

The header is W3C Trace Context's (level 1), names and attributes are those of OpenTelemetry's
semantic conventions for messaging. Where spans go is said by OpenTelemetry's own variables
(``OTEL_EXPORTER_OTLP_ENDPOINT`` and its kin); without them nothing is imported, and headers pass
as they came.

A hop's span is the child of what the record's header names, and the records made of it name the
span. Its id is a hash of the header, the hop and the record's place: what a stage writes stays a
function of the log, and a stretch that is emitted again has the same headers and spans.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from threading import Thread
from typing import TYPE_CHECKING

from streams.errors import ConfigurationError
from streams.settings import from_environment

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.trace import SpanContext, Status

END_WITHIN_S = 3.0
"""For so long a process that ends waits for whoever takes the spans."""
PACKAGE = "kappa-ml"

_SAMPLED = 0x01
_HEADER = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16


@dataclass(frozen=True, slots=True)
class Parent:
    """What a header says: the trace, the span that caused the record, and the flags."""

    trace_id: int
    span_id: int
    flags: int


def parent_of(header: bytes | None) -> Parent | None:
    """Return what a ``traceparent`` says; None where it is none, or not sampled.

    >>> parent_of(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00") is None
    True
    """
    found = None if header is None else _HEADER.fullmatch(header)
    if found is None:
        return None
    form, trace, span, flags, further = found.groups()
    if form == b"ff" or (form == b"00" and further) or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    parent = Parent(int(trace, 16), int(span, 16), int(flags, 16))
    return parent if parent.flags & _SAMPLED else None


@dataclass(frozen=True, slots=True)
class _Begun:
    """A record's span, before its end; ``header`` is what records made of it carry."""

    parent: Parent
    span_id: int
    header: bytes


class Spans:
    """The spans of one partition's stretch, begun and not yet told.

    ``onward`` is offset → header for what is made of the records, those not sampled among them as
    they came.
    """

    def __init__(
        self, tracer: Tracer, traces: Mapping[int, bytes], begun: Mapping[int, _Begun],
        attributes: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._tracer, self._begun, self._attributes = tracer, begun, attributes
        self._began_ns = tracer.clock_ns()
        self.onward: Mapping[int, bytes] = {**traces, **{o: b.header for o, b in begun.items()}}

    def end(self, offsets: Iterable[int], failed: Mapping[int, str] | None = None) -> None:
        """Tell the spans of the records at ``offsets``, which are done, and of the failed ones
        with what went wrong; those of others are dropped."""
        failed = failed or {}
        ended_ns = self._tracer.clock_ns()
        done = self._begun.keys() & {*offsets, *failed}
        for offset in sorted(done):
            self._tracer.tell(
                self._begun[offset], offset, self._attributes, self._began_ns, ended_ns,
                failed.get(offset),
            )  # fmt: skip


class Tracer:
    """Makes spans and hands them to a processor of OpenTelemetry's; may be used from any thread.

    ``clock_ns`` is the clock on the wall, nanoseconds since the epoch.
    """

    def __init__(
        self,
        processor: SpanProcessor,
        resource: Resource,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._processor, self._resource, self.clock_ns = processor, resource, clock_ns
        self._scope = InstrumentationScope("kappa", _own_version())

    def begin(
        self, topic: str, partition: int, group: str, traces: Mapping[int, bytes]
    ) -> Spans | None:
        """Begin the spans of a stretch that ``group`` has read; None where none is sampled.

        ``traces`` is offset → ``traceparent``.
        """
        begun: dict[int, _Begun] = {}
        for offset, header in traces.items():
            parent = parent_of(header)
            if parent is not None:
                place = f"{group}\0{topic}\0{partition}\0{offset}".encode()
                span = blake2b(header + place, digest_size=8).digest()
                # The random flag (bit 1) is about the trace id, which stays; others are unknown.
                onward = b"00-%032x-%s-%02x" % (
                    parent.trace_id, span.hex().encode(), parent.flags & 0x03
                )  # fmt: skip
                begun[offset] = _Begun(parent, int.from_bytes(span), onward)
        if not begun:
            return None
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": topic,
            "messaging.destination.partition.id": str(partition),
            "messaging.consumer.group.name": group,
        }
        return Spans(self, traces, begun, attributes)

    def tell(
        self,
        begun: _Begun,
        offset: int,
        attributes: Mapping[str, str],
        began_ns: int,
        ended_ns: int,
        failed: str | None,
    ) -> None:
        """Hand on the span of the record at ``offset``."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanKind

        own: dict[str, str | int] = {**attributes, "messaging.kafka.offset": offset}
        if failed is not None:
            own["error.type"] = failed
        span: ReadableSpan = ReadableSpan(
            name=f"process {attributes['messaging.destination.name']}",
            context=_context(begun.parent, begun.span_id, remote=False),
            parent=_context(begun.parent, begun.parent.span_id, remote=True),
            resource=self._resource,
            attributes=own,
            kind=SpanKind.CONSUMER,
            status=_status(failed),
            start_time=began_ns,
            end_time=max(began_ns, ended_ns),
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(span)


def _context(parent: Parent, span_id: int, *, remote: bool) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(parent.trace_id, span_id, remote, TraceFlags(parent.flags))


def _status(failed: str | None) -> Status:
    from opentelemetry.trace import Status, StatusCode

    return Status() if failed is None else Status(StatusCode.ERROR, failed)


_of_process: Tracer | None = None


def begun(topic: str, partition: int, group: str, traces: Mapping[int, bytes]) -> Spans | None:
    """Begin the spans of a stretch, as :meth:`Tracer.begin`; None where nobody takes any."""
    if _of_process is None or not traces:
        return None
    return _of_process.begin(topic, partition, group, traces)


def is_on() -> bool:
    """Return whether anybody takes spans of this process."""
    return _of_process is not None


@contextmanager
def traced_by(tracer: Tracer) -> Iterator[None]:
    """Let ``tracer`` make this process's spans."""
    global _of_process
    _of_process = tracer
    try:
        yield
    finally:
        _of_process = None


def is_asked_for() -> bool:
    """Return whether OpenTelemetry's variables name somebody who takes spans.

    Raises:
        ConfigurationError: they name an exporter or a protocol that there is not.
    """
    if _said("OTEL_SDK_DISABLED") == "true":
        return False
    exporters = _said("OTEL_TRACES_EXPORTER")
    if exporters not in ("", "otlp", "none"):
        raise ConfigurationError(
            f"OTEL_TRACES_EXPORTER={exporters}: spans are exported by otlp, or by none"
        )
    addresses = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if exporters == "none" or not (exporters or any(map(_said, addresses))):
        return False
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if _said(name):
            if _said(name) == "http/protobuf":
                break  # the first one counts
            raise ConfigurationError(
                f"{name}={_said(name)}: spans are sent by http/protobuf alone, which receivers "
                "take at port 4318"
            )
    return True


@contextmanager
def tracing(service: str, instance: str) -> Iterator[None]:
    """Make this process's spans, where it is asked for; ``OTEL_SERVICE_NAME`` goes before
    ``service``.

    Raises:
        ConfigurationError: as :func:`is_asked_for`; or the exporter is not installed.
    """
    if not is_asked_for():
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            f"traces are asked for (OTEL_*), but their exporter is not installed ({error}): "
            f"pip install '{PACKAGE}[tracing]'"
        ) from error
    own = {"service.name": service, "service.instance.id": instance}
    said = OTELResourceDetector().detect().attributes  # what the variables say goes before ours
    processor = BatchSpanProcessor(OTLPSpanExporter())
    try:
        with traced_by(Tracer(processor, Resource.create({**own, **said}))):
            yield
    finally:
        # Its end may wait half a minute for a receiver that is away; a worker's stop must not.
        ending = Thread(target=processor.shutdown, name="tracing-end", daemon=True)
        ending.start()
        ending.join(END_WITHIN_S)


def _said(name: str) -> str:
    return (from_environment(name) or "").strip().lower()


def _own_version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return ""
