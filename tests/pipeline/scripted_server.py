"""A real HTTP server with scripted answers that remembers every request: what was asked, and when it was answered."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from types import TracebackType

from aiohttp import web

GRACE = 1.0
"""Seconds before a kill in which an answer may have been on its way into the store."""


@dataclass
class Asked:
    """One request body and its history."""

    body: str
    times: list[float] = field(default_factory=list)
    """When each answer to it was sent."""
    in_flight_at_kill: bool = False


class ScriptedServer:
    """Speaks OpenAI's chat completions; the answer depends on the request alone."""

    def __init__(self, delay: float = 0.0) -> None:
        self._delay = delay
        self._asked: dict[str, Asked] = defaultdict(lambda: Asked(""))
        self._kills: list[float] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = ""

    @property
    def answered(self) -> int:
        """Answers sent so far."""
        return sum(len(asked.times) for asked in self._asked.values())

    def mark_kill(self) -> None:
        """A client was killed just now."""
        self._kills.append(time.monotonic())

    def repeated(self) -> list[Asked]:
        """Requests that came more than once, each marked if every earlier answer was on its way at a kill."""
        found = [asked for asked in self._asked.values() if len(asked.times) > 1]
        for asked in found:
            asked.in_flight_at_kill = all(
                any(-GRACE <= kill - at <= GRACE for kill in self._kills) for at in asked.times[:-1]
            )
        return found

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = json.dumps(body, sort_keys=True)
        await asyncio.sleep(self._delay)
        asked = self._asked[text]
        asked.body = text
        asked.times.append(time.monotonic())
        choices = []
        for place in range(body.get("n") or 1):
            seed = int(hashlib.sha256(f"{text}{place}".encode()).hexdigest(), 16)
            content = " ".join(("tea", "bread", "sun", "rain", "yes", "no")[(seed >> 3 * k) % 6] for k in range(12))
            choices.append(
                {"index": place, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
            )
        usage = {"prompt_tokens": 10, "completion_tokens": 12 * len(choices), "total_tokens": 10 + 12 * len(choices)}
        return web.json_response({"id": "x", "object": "chat.completion", "choices": choices, "usage": usage})

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def start() -> None:
            app = web.Application()
            app.router.add_post("/v1/chat/completions", self._answer)
            app.router.add_get("/v1/models", self._models)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            self.url = f"http://127.0.0.1:{port}/v1"
            self._ready.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
