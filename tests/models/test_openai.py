from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from rlhi.errors import UsageError
from rlhi.models.base import ChatRequest, Completion, ModelError, Sampling, TooLong, Transient, Unreachable
from rlhi.models.factory import check, open_model
from rlhi.models.layers import Meter
from rlhi.models.openai import OpenAIModel
from rlhi.models.store import Store
from rlhi.records import ChatMessage
from rlhi.settings import Model

Handler = Callable[[dict[str, Any], web.Request], Awaitable[web.StreamResponse]]
HELLO = (ChatMessage(role="user", content="Hello"),)


def answer(*texts: str | None, finish: str = "stop") -> web.Response:
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        for i, text in enumerate(texts)
    ]
    return web.json_response({"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": len(texts)}})


class Server:
    """A real server on this machine that answers as a test tells it to."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        return await self._handler(body, request)

    async def __aenter__(self) -> Server:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def settings(self, **changes: Any) -> Model:
        return Model.model_validate(
            {"backend": "openai", "model": "m", "base_url": self.url, "timeout": 5.0, **changes}
        )


def talk(handler: Handler, request: ChatRequest | None = None, **changes: Any) -> tuple[Completion, Server]:
    async def main() -> tuple[Completion, Server]:
        async with Server(handler) as server:
            model = OpenAIModel(server.settings(**changes))
            try:
                return await model.complete(request or ChatRequest(model=model.model, messages=HELLO)), server
            finally:
                await model.close()

    return asyncio.run(main())


def fails(status: int, body: Any = None, headers: dict[str, str] | None = None) -> Handler:
    async def handler(_: dict[str, Any], __: web.Request) -> web.StreamResponse:
        text = body if isinstance(body, str) else json.dumps(body or {"error": {"message": "said the server"}})
        return web.Response(status=status, text=text, headers=headers)

    return handler


async def says(_: dict[str, Any], __: web.Request) -> web.StreamResponse:
    return answer("Hi \ud83d\ude00")


def test_a_request_is_sent_in_openai_form() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, max_tokens=33, seed=4)
    request = ChatRequest(model="m", messages=HELLO, sampling=sampling, n=2, json_schema={"type": "object"})

    async def two(_: dict[str, Any], __: web.Request) -> web.StreamResponse:
        return answer("one", "two", finish="length")

    got, server = talk(two, request)
    assert [choice.text for choice in got.choices] == ["one", "two"]
    assert {choice.finish for choice in got.choices} == {"length"}
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (7, 2)
    body = server.bodies[0]
    assert body.pop("seed") >= 0
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 33,
        "n": 2,
    }
    assert "Authorization" not in server.headers[0]


def test_a_schema_is_sent_where_the_server_can_enforce_it() -> None:
    request = ChatRequest(model="m", messages=HELLO, json_schema={"type": "object"})
    _, server = talk(says, request, json_schema=True)
    assert server.bodies[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_each_sample_number_has_its_own_seed() -> None:
    seeds = set()
    for sample in range(3):
        _, server = talk(says, ChatRequest(model="m", messages=HELLO, sample=sample))
        seeds.add(server.bodies[0]["seed"])
    assert len(seeds) == 3


def test_the_key_comes_from_the_environment_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    _, server = talk(says, api_key_env="SOME_KEY")
    assert server.headers[0]["Authorization"] == "Bearer sk-very-secret"
    with pytest.raises(Unreachable, match="check the key in SOME_KEY") as caught:
        talk(fails(401, {"error": {"message": "wrong key sk-very-secret"}}), api_key_env="SOME_KEY")
    assert "sk-very-secret" not in str(caught.value)
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(UsageError, match="SOME_KEY is not set"):
        OpenAIModel(Model(backend="openai", model="m", base_url="http://h/v1", api_key_env="SOME_KEY"))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529])
def test_what_may_pass_is_transient(status: int) -> None:
    with pytest.raises(Transient, match=f"status {status}.*said the server"):
        talk(fails(status))


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("3", 3, 3),
        ("0.5", 0.5, 0.5),
        ("-4", 0, 0),
        (format_datetime(datetime.now(UTC) + timedelta(hours=10), usegmt=True), 9 * 3600, 36_000),
        (format_datetime(datetime.now(UTC) - timedelta(seconds=1000), usegmt=True), 0, 0),
        ("soon", None, None),
        ("nan", None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, low: float | None, high: float | None) -> None:
    with pytest.raises(Transient) as caught:
        talk(fails(429, headers={"Retry-After": header}))
    wait = caught.value.retry_after
    if low is None or high is None:
        assert wait is None
    else:
        assert wait is not None
        assert low <= wait <= high


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, None, Unreachable, "name the variable that holds its key in api_key_env"),
        (403, None, Unreachable, "refuses access"),
        (404, "<html>Not Found</html>", Unreachable, "base_url is wrong"),
        (404, {"error": {"message": "The model `m` does not exist"}}, Unreachable, "does not serve the model 'm'"),
        (400, {"detail": "Server is pinned to 'x'; requested 'm'."}, Unreachable, "pinned to 'x'"),
        (429, {"error": {"message": "Over", "code": "insufficient_quota"}}, Unreachable, "no credit"),
        (400, {"error": {"message": "This model's maximum context length is 8"}}, TooLong, "context too long"),
        (413, "", TooLong, "context too long"),
        (400, {"error": {"message": "Model not available", "code": 400}}, Unreachable, "does not serve"),
        (400, {"error": {"message": "No.", "code": "model_not_found"}}, Unreachable, "does not serve"),
        (400, {"error": {"message": "Invalid model name passed in model=m"}}, Unreachable, "does not serve"),
        (400, {"error": {"message": "model 'm' not found, try pulling it first"}}, Unreachable, "does not serve"),
        (
            400,
            {"error": {"message": "Bad value for this model", "type": "invalid_request_error"}},
            ModelError,
            "Bad value",
        ),
        (
            400,
            {"error": {"message": "This model takes no system message: role is invalid", "type": "invalid"}},
            ModelError,
            "takes no system",
        ),
        (400, {"error": {"message": "bad things"}}, ModelError, "bad things"),
        (422, {"detail": [{"loc": ["body"], "msg": "no"}]}, ModelError, "refuses the request"),
    ],
)
def test_what_cannot_pass_is_final_and_says_what_to_check(
    status: int, body: Any, kind: type[ModelError], words: str
) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        talk(fails(status, body))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>proxy</html>",
        '{"choices": [{"message": {"content": "ha',
        "[]",
        '{"choices": []}',
        '{"error": {"message": "overloaded"}}',
        '{"choices": [{"finish_reason": "stop"}]}',
        '{"choices": ["text"]}',
        '{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}}',
    ],
)
def test_half_an_answer_is_transient(body: str) -> None:
    with pytest.raises(Transient):
        talk(fails(200, body))


def test_a_refusal_is_no_answer() -> None:
    refusal = {"choices": [{"message": {"content": None, "refusal": "I will not"}, "finish_reason": "stop"}]}
    with pytest.raises(ModelError, match="I will not") as caught:
        talk(fails(200, refusal))
    assert not isinstance(caught.value, Transient)
    with pytest.raises(ModelError, match="content_filter"):
        talk(fails(200, {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}))


def test_text_is_clean_unicode() -> None:
    body = '{"choices": [{"message": {"content": "a\\u0000b \\ud83d\\ude00 \\ud800 c"}, "finish_reason": null}]}'
    got, _ = talk(fails(200, body))
    assert got.text == "ab 😀 \ufffd c"
    assert got.choices[0].finish == "stop"


def test_a_lost_connection_is_transient() -> None:
    async def cut(_: dict[str, Any], request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def half(_: dict[str, Any], request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices"')
        assert request.transport is not None
        request.transport.close()
        return response

    for handler in (cut, half):
        with pytest.raises(Transient):
            talk(handler)


def test_a_time_out_is_transient() -> None:
    async def sleeps(_: dict[str, Any], __: web.Request) -> web.StreamResponse:
        await asyncio.sleep(2)
        return answer("late")

    with pytest.raises(Transient, match=r"did not answer in 0\.1 s"):
        talk(sleeps, timeout=0.1)


@pytest.mark.parametrize("field", ["seed", "n", "max_tokens"])
def test_a_field_that_the_server_does_not_know_is_left_out(field: str) -> None:
    async def picky(body: dict[str, Any], _: web.Request) -> web.StreamResponse:
        if field in body:
            return web.json_response({"detail": f"Unexpected fields in the request: {{'{field}'}}"}, status=422)
        return answer("fine")

    got, server = talk(picky, ChatRequest(model="m", messages=HELLO, n=2))
    assert got.text == "fine"
    assert len(server.bodies) == 2
    assert ("max_completion_tokens" in server.bodies[1]) == (field == "max_tokens")


REFUSALS = {
    "temperature": {
        "message": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
        "supported.",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "unsupported_value",
    },
    "top_p": {"message": "`temperature` and `top_p` cannot both be specified for this model."},
}


@pytest.mark.parametrize("field", REFUSALS)
def test_a_model_that_takes_no_other_sampling_is_asked_with_its_own(field: str) -> None:
    async def picky(body: dict[str, Any], _: web.Request) -> web.StreamResponse:
        if field in body:
            return web.json_response({"error": REFUSALS[field]}, status=400)
        return answer("fine")

    async def main() -> list[dict[str, Any]]:
        async with Server(picky) as server:
            await check(server.settings())
            return server.bodies

    first, second = asyncio.run(main())
    assert first["temperature"] == 0
    assert first.keys() - second.keys() == {field}


def test_the_address_is_not_in_the_models_name() -> None:
    def name(url: str) -> str:
        return OpenAIModel(Model(backend="openai", model="m", base_url=url)).model

    assert "inner" not in name("http://inner.example/v1")
    assert name("http://inner.example/v1") == name("http://inner.example/v1/") != name("http://other.example/v1")


def test_the_whole_stack_gets_n_choices_from_a_server_that_gives_one(tmp_path: Path) -> None:
    async def main() -> None:
        busy = iter(range(100))

        async def one(body: dict[str, Any], _: web.Request) -> web.StreamResponse:
            if next(busy) == 3:
                return web.Response(status=503, headers={"Retry-After": "0"})
            return answer(f"seed {body['seed']}")

        async with Server(one) as server:
            meter, store = Meter(), Store(tmp_path / "s.sqlite")
            model = open_model(server.settings(), store=store, meter=meter, role="policy")
            request = ChatRequest(model=model.model, messages=HELLO, n=8)
            first = await model.complete(request)
            assert len({choice.text for choice in first.choices}) == 8
            assert meter.as_dict()["policy"]["sent"] == len(server.bodies) == 9
            assert meter.as_dict()["policy"]["retries"] == 1
            assert len({body["seed"] for body in server.bodies}) == 8
            await model.close()
            again = open_model(server.settings(), store=store, meter=meter, role="policy")
            assert await again.complete(request) == first
            assert len(server.bodies) == 9
            assert meter.as_dict()["policy"]["cached"] == 1

    asyncio.run(main())


def test_a_server_is_probed_once_and_then_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with Server(says) as server:
            store = Store(tmp_path / "s.sqlite")
            for _ in range(3):
                await check(server.settings(), store)
            assert len(server.bodies) == 1
            assert server.bodies[0]["max_tokens"] == 1

    asyncio.run(main())


def test_what_cannot_be_reached_is_said_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with Server(says) as server:
            gone = server.settings()
        began = asyncio.get_running_loop().time()
        with pytest.raises(UsageError, match=r"http://127\.0\.0\.1:\d+/v1/chat/completions.*is the server running"):
            await check(gone)
        with pytest.raises(UsageError, match=r"no-such-host\.invalid"):
            await check(gone.model_copy(update={"base_url": "http://no-such-host.invalid/v1"}))
        assert asyncio.get_running_loop().time() - began < 5
        async with Server(fails(503)) as server:
            with pytest.raises(UsageError, match="status 503"):
                await check(server.settings())
        async with Server(fails(429)) as server:
            await check(server.settings())
        with pytest.raises(UsageError, match="is no address"):
            await check(gone.model_copy(update={"base_url": "localhost:8000"}))
        with pytest.raises(UsageError, match="no back end is named 'opnai'; did you mean 'openai'"):
            await check(gone.model_copy(update={"backend": "opnai"}))

    asyncio.run(main())
