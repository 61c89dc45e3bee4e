"""Who may look and act: names, origins, sessions, tokens against forged requests; no broker."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest

from serving.dashboard.acting import Acting
from serving.dashboard.app import BODY_BYTES, LOGIN_BYTES, QUESTIONS, Parts, make_app
from serving.dashboard.board import Board, Fixed
from serving.dashboard.documents.actions import Done, RetrainOrder
from serving.dashboard.documents.alerts import Alerts
from serving.dashboard.documents.sections import SECTIONS
from serving.dashboard.options import DashboardOptions
from serving.dashboard.sessions import LINK_LIFE_S, SESSION_LIFE_S, Sessions
from streams.errors import ConfigurationError

TOKEN = "a-token-of-the-tests-0123456789"  # noqa: S105
HERE = "http://127.0.0.1:8790"
ORIGIN = {"origin": HERE}
ORDER = {"reason": "because"}


class Made:
    """An application without a broker; ``told`` is what its action was asked to do."""

    def __init__(self, options: DashboardOptions | None = None) -> None:
        self.now_s = 0.0
        self.told: list[RetrainOrder] = []
        self.done: list[Done] = []
        self.links: list[str] = []
        self.options = options or DashboardOptions(token=TOKEN)
        self.sessions = Sessions(8790, lambda: self.now_s, self.options.token)
        board = Board({"alerts": Fixed(Alerts(alerts=[], standing=0, total=0))})
        acting = Acting({"retrain": (RetrainOrder, self._retrain)}, self.done.append, lambda: 7)
        self.parts = Parts(
            "shop", board, self.sessions, self.options, acting, used=lambda: self.links.append("")
        )
        self.app = make_app(self.parts)

    def _retrain(self, order: RetrainOrder) -> tuple[str, dict[str, Any]]:
        if order.window == "never":
            raise ConfigurationError("no such window")
        self.told.append(order)
        return "asked for", {"window": order.window}

    def ask(
        self, questions: Callable[[httpx.AsyncClient], Awaitable[None]], base: str = HERE
    ) -> None:
        """Run ``questions`` with a client."""

        async def run() -> None:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                await questions(client)

        asyncio.run(run())


async def csrf_of(client: httpx.AsyncClient, made: Made) -> dict[str, str]:
    answer = await client.get("/login", params={"token": made.sessions.new_link()})
    assert answer.status_code == 303
    session = (await client.get("/api/session")).json()
    assert session["may_act"]
    return {**ORIGIN, "x-kappa-csrf": session["csrf"]}


def test_an_action_is_done_with_cookie_header_and_origin() -> None:
    made = Made()

    async def questions(client: httpx.AsyncClient) -> None:
        headers = await csrf_of(client, made)
        order = {"reason": " drift \n seen ", "window": "30d"}
        answer = await client.post("/api/actions/retrain", json=order, headers=headers)
        assert answer.status_code == 200, answer.text
        done = msgspec.json.decode(answer.content, type=Done)
        assert (done.state, done.text, done.result) == ("done", "asked for", {"window": "30d"})
        assert (done.by, done.reason, done.at_ms) == ("operator", "drift seen", 7)

    made.ask(questions)
    assert made.told == [RetrainOrder("drift seen", None, "30d")]
    assert [done.action for done in made.done] == ["retrain"]


@pytest.mark.parametrize(
    ("without", "status", "kind"),
    [("cookie", 401, "session"), ("x-kappa-csrf", 403, "csrf"), ("origin", 403, "origin")],
)
def test_an_action_needs_all_of_them(without: str, status: int, kind: str) -> None:
    made = Made()

    async def questions(client: httpx.AsyncClient) -> None:
        headers = await csrf_of(client, made)
        headers.pop(without, None)
        if without == "cookie":
            client.cookies.clear()
        answer = await client.post("/api/actions/retrain", json=ORDER, headers=headers)
        assert answer.status_code == status
        assert answer.json()["type"].endswith(f":{kind}")

    made.ask(questions)
    assert made.told == []


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:8791",
        "file://127.0.0.1:8790",
        "",
        "http://127.0.0.1:8790.evil.example",
        "http://127.0.0.1:8790@evil.example",
        "http://[",
    ],
)
def test_another_origin_is_refused_with_cookie_and_header(origin: str) -> None:
    made = Made()

    async def questions(client: httpx.AsyncClient) -> None:
        headers = {**await csrf_of(client, made), "origin": origin}
        answer = await client.post("/api/actions/retrain", json=ORDER, headers=headers)
        assert answer.status_code == 403

    made.ask(questions)
    assert made.told == []


@pytest.mark.parametrize("given", ["", "wrong", "\u00e9"])
def test_a_wrong_csrf_token_is_refused(given: str) -> None:
    made = Made()

    async def questions(client: httpx.AsyncClient) -> None:
        headers = {**await csrf_of(client, made), "x-kappa-csrf": given.encode()}
        answer = await client.post("/api/actions/retrain", json=ORDER, headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 403

    made.ask(questions)


def test_a_name_that_is_bound_to_this_machine_elsewhere_reads_nothing() -> None:
    async def questions(client: httpx.AsyncClient) -> None:
        for path in ("/", "/api/alerts", "/api/session", "/static/app.js"):
            answer = await client.get(path)
            assert answer.status_code == 421
            assert "content-security-policy" in answer.headers

    Made().ask(questions, "http://rebound.example:8790")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_can_not_keep_the_dashboard_busy(site: str) -> None:
    async def questions(client: httpx.AsyncClient) -> None:
        for path in ("/api/alerts", "/api/stream", "/api/records?topic=x"):
            answer = await client.get(path, headers={"sec-fetch-site": site})
            assert answer.status_code == 403
        # A link from elsewhere to the page itself is nothing bad, and its own questions are asked.
        assert (await client.get("/", headers={"sec-fetch-site": site})).status_code == 200
        own = await client.get("/api/alerts", headers={"sec-fetch-site": "same-origin"})
        assert own.status_code == 200

    Made().ask(questions)


@pytest.mark.parametrize("path", ["/api/records?topic=x", "/api/experiments/findings?name=x"])
def test_reads_of_the_log_leave_threads_for_the_pages(path: str) -> None:
    made = Made()
    go, begun = threading.Event(), threading.Semaphore(0)

    def waits(_: object) -> Any:
        begun.release()
        if not go.wait(30):
            raise ConfigurationError("nobody let it go")
        raise ConfigurationError("let go")

    made.parts.browse = made.parts.findings = waits

    async def questions(client: httpx.AsyncClient) -> None:
        first = [asyncio.create_task(client.get(path)) for _ in range(QUESTIONS)]
        try:
            for _ in first:
                assert await asyncio.to_thread(begun.acquire, timeout=30)
            more = await client.get(path)
            assert (more.status_code, "retry-after" in more.headers) == (429, True)
            assert (await client.get("/api/alerts")).status_code == 200
        finally:
            go.set()
        assert [(await each).json()["detail"] for each in first] == ["let go"] * QUESTIONS
        assert (await client.get(path)).status_code == 409

    made.ask(questions)


def test_bodies_are_bounded_before_and_behind_the_login() -> None:
    made = Made()

    async def questions(client: httpx.AsyncClient) -> None:
        body = b'{"token": "' + b"x" * LOGIN_BYTES + b'"}'
        answer = await client.post("/api/login", content=body, headers=ORIGIN)
        assert answer.status_code == 413
        headers = await csrf_of(client, made)
        body = b'{"reason": "' + b"x" * BODY_BYTES + b'"}'
        answer = await client.post("/api/actions/retrain", content=body, headers=headers)
        assert answer.status_code == 413

    made.ask(questions)
    assert made.told == []


def test_what_is_refused_does_not_repeat_a_token() -> None:
    made = Made()

    async def questions(client: httpx.AsyncClient) -> None:
        for token in ("secret" * 5, "secret" * 100):
            answers = [
                await client.get("/login", params={"token": token}),
                await client.post("/api/login", json={"token": token}, headers=ORIGIN),
                await client.post("/api/login", json={"token": [token]}, headers=ORIGIN),
            ]
            for answer in answers:
                assert answer.status_code in (401, 422)
                assert "secret" not in answer.text

    made.ask(questions)
    assert TOKEN not in repr(made.options)


@pytest.mark.parametrize(
    "path", ["/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static//etc/passwd"]
)
def test_nothing_but_the_page_is_served(path: str) -> None:
    async def questions(client: httpx.AsyncClient) -> None:
        assert (await client.get(path)).status_code == 404

    Made().ask(questions)


def test_a_link_opens_one_session_and_is_followed_by_another() -> None:
    made = Made()
    link = made.sessions.new_link()

    async def questions(client: httpx.AsyncClient) -> None:
        assert (await client.get("/login", params={"token": link})).status_code == 303
        client.cookies.clear()
        assert (await client.get("/login", params={"token": link})).status_code == 401
        assert not (await client.get("/api/session")).json()["may_act"]
        assert (await client.get("/login")).status_code == 401

    made.ask(questions)
    assert made.links == [""]


def test_the_cookie_is_for_this_page_alone() -> None:
    made = Made()

    async def questions(client: httpx.AsyncClient) -> None:
        answer = await client.get("/login", params={"token": made.sessions.new_link()})
        cookie = answer.headers["set-cookie"]
        for part in ("kappa_dashboard_8790=", "HttpOnly", "SameSite=Strict", "Path=/"):
            assert part in cookie
        assert answer.headers["location"] == "/"
        assert "Secure" not in cookie

    made.ask(questions)


def test_over_tls_the_cookie_stays_there() -> None:
    made = Made()

    async def questions(client: httpx.AsyncClient) -> None:
        answer = await client.get("/login", params={"token": made.sessions.new_link()})
        assert answer.headers["set-cookie"].endswith("; Secure")

    made.ask(questions, "https://127.0.0.1:8790")


def test_the_token_of_a_file_logs_in_any_number_of_times() -> None:
    made = Made()

    async def questions(client: httpx.AsyncClient) -> None:
        for _ in range(2):
            answer = await client.post("/api/login", json={"token": TOKEN}, headers=ORIGIN)
            assert answer.status_code == 200
            assert answer.json()["may_act"]
        wrong = await client.post("/api/login", json={"token": TOKEN + "x"}, headers=ORIGIN)
        assert wrong.status_code == 401
        foreign = await client.post("/api/login", json={"token": TOKEN})
        assert foreign.status_code == 403

    made.ask(questions)
    assert made.links == []


def test_links_and_sessions_end() -> None:
    made = Made()
    link = made.sessions.new_link()
    made.now_s = LINK_LIFE_S
    assert made.sessions.log_in(link) is None
    found = made.sessions.log_in(TOKEN)
    assert found is not None
    cookie = f"{made.sessions.cookie}={found[0]}"
    assert made.sessions.csrf(cookie) is not None
    made.now_s += SESSION_LIFE_S + 1
    assert made.sessions.csrf(cookie) is None


def test_on_this_machine_everybody_reads_and_elsewhere_only_sessions() -> None:
    async def here(client: httpx.AsyncClient) -> None:
        assert (await client.get("/api/alerts")).status_code == 200

    Made().ask(here)
    remote = Made(DashboardOptions("0.0.0.0", token=TOKEN, remote=True, names=("box.example",)))  # noqa: S104

    async def there(client: httpx.AsyncClient) -> None:
        assert (await client.get("/")).status_code == 200
        for path in ("/api/alerts", "/api/stream", "/api/records?topic=x"):
            assert (await client.get(path)).status_code == 401
        answer = await client.post(
            "/api/login", json={"token": TOKEN}, headers={"origin": "http://box.example:8790"}
        )
        assert answer.status_code == 200
        assert (await client.get("/api/alerts")).status_code == 200

    remote.ask(there, "http://box.example:8790")
    # Behind a proxy the listener is local, and those who ask are not.
    Made(DashboardOptions(token=TOKEN, names=("box.example",))).ask(
        there, "http://box.example:8790"
    )


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"host": "0.0.0.0"}, "--token-file"),  # noqa: S104
        ({"host": "0.0.0.0", "token": TOKEN}, "--remote"),  # noqa: S104
        ({"host": "0.0.0.0", "token": TOKEN, "remote": True}, "--name"),  # noqa: S104
        ({"token": "short"}, "5 characters"),
    ],
    ids=["no token", "not meant", "no name", "short token"],
)
def test_options_that_would_let_anybody_in_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        DashboardOptions(**given)


def test_every_answer_carries_the_headers_of_security() -> None:
    async def questions(client: httpx.AsyncClient) -> None:
        for path in ("/", "/api/alerts", "/api/nothing", "/nowhere", "/static/../app.py"):
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"

    Made().ask(questions)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("fly", ORDER, 404),
        ("retrain", {}, 422),
        ("retrain", {"reason": "  "}, 422),
        ("retrain", {"reason": "x", "unknown": 1}, 422),
        ("retrain", {"reason": "x", "window": "never"}, 409),
    ],
    ids=["unknown action", "no reason", "empty reason", "unknown field", "makes no sense"],
)
def test_a_wrong_order_says_why(path: str, body: dict[str, Any], status: int) -> None:
    made = Made()

    async def questions(client: httpx.AsyncClient) -> None:
        headers = await csrf_of(client, made)
        answer = await client.post(f"/api/actions/{path}", json=body, headers=headers)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]

    made.ask(questions)
    assert made.told == []


def test_the_page_and_its_files_are_there() -> None:
    async def questions(client: httpx.AsyncClient) -> None:
        page = await client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        script = await client.get("/static/app.js")
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        missing = await client.get("/static/nothing.js")
        assert missing.status_code == 404
        unknown = await client.get("/api/nothing")
        assert unknown.status_code == 404
        assert all(section in unknown.json()["detail"] for section in SECTIONS)

    Made().ask(questions)
