"""What the tests of the service share: a small pipeline, its packages, its store, its answers."""

import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

from features.aggregations import Count, Mean
from features.definition import Category, Definition, HourOfDay, Number, Ratio
from features.records import FeatureRows
from features.store.columnar import OnlineStore
from features.store.rows import entity_keys
from features.store.views import stored_name, view_of
from serving.http.app import make_app
from serving.http.options import ServeOptions
from serving.http.service import Service
from serving.inference.loading import Loaded, Loader
from serving.pipeline import Pipeline
from streams.clock import Clock, ManualClock
from streams.expressions import Value
from streams.settings import Settings
from streams.stream import EventStream, LabelStream
from streams.wire import ModelEvent, Registered, StageChanged
from training.calibration import Platt
from training.dataset.encoding import Encoding
from training.networks.declared import Tabular
from training.networks.shape import Shape
from training.networks.tasks import Binary
from training.package import save_package
from training.reference import Reference
from training.spec import Model

NOW_MS = 1_577_836_800_000 + 10 * 3_600_000  # 2020-01-01, ten in the morning
HOUR_MS = 3_600_000
NETWORK = Tabular(hidden=(8,))
NOWHERE = "127.0.0.1:1"
"""No broker: of tests that follow no log."""


class Sale(msgspec.Struct):
    """The event."""

    id: str
    shop: str
    at_ms: int
    amount: Annotated[float, msgspec.Meta(ge=0)]
    channel: Literal["web", "till"] = "till"


class Return(msgspec.Struct):
    """The label."""

    id: str
    shop: str
    at_ms: int
    returned: float


DEFINITION = Definition(
    1,
    {
        "hour": HourOfDay(),
        "channel": Category("channel"),
        "amount": Number(Value("amount")),
        "sales_1d": Count(over="1d", tile="1h"),
        "amount_1d": Mean(Value("amount"), over="1d", tile="1h"),
        "above": Ratio("amount", "amount_1d"),
    },
)
V2 = Definition(2, {"amount": Number(Value("amount")), "sales_2d": Count(over="2d", tile="1h")})


def new_pipeline(*further: Definition, name: str | None = None) -> Pipeline:
    """Return a pipeline of a name that no other test has."""
    return Pipeline(
        name=name or f"t{uuid4().hex[:8]}",
        events=EventStream(Sale, id="id", entity="shop", event_time="at_ms", partitions=2),
        labels=LabelStream(
            Return, id="id", entity="shop", event_time="at_ms", target=Value("returned")
        ),
        features=(DEFINITION, *further),
        model=Model(prior=0.25, network=NETWORK),
    )


def given(**changed: Any) -> dict[str, Any]:
    """Return the features of a row, some of them changed."""
    features: dict[str, Any] = {
        "hour": "10", "channel": "web", "amount": 12.5, "sales_1d": 3, "amount_1d": 10.0,
    }  # fmt: skip
    return features | changed


def stored(
    store: OnlineStore,
    pipeline: Pipeline,
    rows: Mapping[str, Mapping[str, Any]],
    at_ms: int = NOW_MS - HOUR_MS,
    definition: Definition = DEFINITION,
) -> None:
    """Put rows into the online store, as the feature worker does: entity → feature → value."""
    view = view_of(definition, pipeline.events)
    layout = view.layout
    numeric = [[row.get(name) for name in layout.numbers] for row in rows.values()]
    texts = [[str(row.get(name) or "") for row in rows.values()] for name in layout.others]
    name = stored_name(pipeline.name, view.name)
    store.create(name)
    store.write(
        name,
        entity_keys(view.entity, list(rows)),
        np.full(len(rows), at_ms, np.int64),
        layout.encode(np.array(numeric, np.float64).reshape(len(rows), -1), texts),
    )


class ScoreOf:
    """A model whose score tells its version: version / 100, plus the amount / 1e6."""

    def __init__(self, version: int, last: int = 0) -> None:
        self.version, self.last = version, last

    def __call__(self, rows: FeatureRows) -> NDArray[np.float64]:
        """Return scores, (n,)."""
        amounts = np.nan_to_num(rows.numeric[:, 0])
        return np.clip(self.version / 100 + amounts / 1e6, 0, 1)


def load(event: Registered) -> ScoreOf:
    """Load the tests' model of a version."""
    return ScoreOf(event.version)


def registered(version: int, definition: int = 1, uri: str = "memory") -> Registered:
    """Return the registration of a version."""
    return Registered(version, f"c{version}", uri, f"{version:064d}", {}, {}, None, definition)


def live(version: int) -> StageChanged:
    """Return the event that puts a version live."""
    return StageChanged(version, "live", "a test")


def service_of(
    pipeline: Pipeline,
    home: Path,
    *events: ModelEvent,
    options: ServeOptions | None = None,
    loader: Loader = load,
    clock: Clock | None = None,
) -> Service:
    """Return a service that is told the control log, and follows none; answers are not kept."""
    service = Service(
        pipeline,
        NOWHERE,
        home,
        Settings(),
        options or ServeOptions(logging="off", access_log=False),
        Loaded(loader),
        clock or ManualClock(NOW_MS),
    )
    service.models.follow(events)
    return service


@asynccontextmanager
async def asking(service: Service, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the service, whose answers come from its own thread."""
    service.answering.start()
    transport = httpx.ASGITransport(make_app(service), raise_app_exceptions=True)
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=headers
        ) as client:
            yield client
    finally:
        service.answering.close()
        service.store.close()


def package(folder: Path, seed: int = 0, definition: Definition = DEFINITION) -> str:
    """Write an untrained package of the pipeline's shape; return its SHA-256."""
    import torch

    from training.networks.build import build

    random = np.random.default_rng(seed)
    rows = examples(random, 200, definition)
    numeric, categories = (definition.names(kind) for kind in ("numeric", "category"))
    encoding = Encoding.fit(numeric, categories, rows)
    shape = Shape(encoding.numeric_width, encoding.code_counts, NETWORK, 1)
    torch.manual_seed(seed)
    return save_package(
        folder,
        weights={name: value.numpy() for name, value in build(shape).state_dict().items()},
        shape=shape,
        task=Binary(),
        encoding=encoding,
        calibration=Platt(1.0, 0.0),
        reference=Reference.from_columns([rows], numeric, categories),
        metrics={},
        manifest={},
    )


def examples(random: np.random.Generator, n: int, definition: Definition) -> FeatureRows:
    """Return n rows of made-up features."""
    zeros = np.zeros(n, np.int64)
    names: Sequence[str] = [f"shop{i}" for i in range(n)]
    numbers = random.gamma(2.0, 10.0, (n, len(definition.names("numeric"))))
    texts = [
        [str(text) for text in random.integers(0, 24, n)] for _ in definition.names("category")
    ]
    return FeatureRows(0, list(names), list(names), zeros, zeros, numbers, texts, [])


@contextmanager
def listening(service: Service) -> Iterator[str]:
    """Serve on a free port of the loopback interface; yield the address."""
    import uvicorn

    from serving.http.app import make_app

    config = uvicorn.Config(
        make_app(service), host="127.0.0.1", port=0, log_config=None, access_log=False, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    service.models.start = lambda: None  # type: ignore[method-assign]
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive(), "the server ended"
            assert time.monotonic() < deadline, "the server did not start in 60 s"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(60)
