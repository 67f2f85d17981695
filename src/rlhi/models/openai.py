"""The back end for servers that speak OpenAI's chat completions: vLLM, SGLang, llama.cpp, `transformers serve`, …"""

from __future__ import annotations

import email.utils
import hashlib
import json
import logging
import math
import os
import re
import time
from typing import Any

import aiohttp

from rlhi.errors import UsageError
from rlhi.models.base import ChatRequest, Choice, Completion, ModelError, TooLong, Transient, Unreachable, Usage
from rlhi.settings import Model

PASSING = {408, 425, 429}
"""Statuses below 500 that may pass; all from 500 on may."""
CONNECT_SECONDS = 10.0
"""Longest time to get a connection."""
SHOWN_CHARS = 300
"""Longest part of a server's message that an error shows, in characters."""
_TOO_LONG = re.compile(
    r"context[_ ](?:length|window|size)|maximum context|too long|too many tokens|max_model_len", re.I
)
_WRONG_MODEL = re.compile(
    r"\bmodel:? ?\S* (?:is |was |does |could |cannot )?(?:not |be )*(?:found|exist|available|unknown|invalid)\b"
    r"|(?:unknown|invalid) model\b|no such model|pinned to",
    re.I,
)
_WRONG_MODEL_CODES = {"model_not_found", "model_not_available", "invalid_model", "unknown_model"}
_NO_CREDIT = re.compile(r"insufficient_quota|exceeded your current quota|billing", re.I)
_REFUSED_FIELD = re.compile(
    r"unsupported|unexpected|unknown|unrecognized|not support|not permitted|not allowed|extra|deprecated|cannot both",
    re.I,
)
_CAN_DO_WITHOUT = ("max_tokens", "seed", "n", "top_p", "temperature")
"""Fields that are left out where a server refuses them; `max_tokens` is then called `max_completion_tokens`."""
_LOG = logging.getLogger(__name__)


class OpenAIModel:
    """A model behind a server."""

    def __init__(self, settings: Model) -> None:
        """Raise `UsageError` when the variable that should hold the key is not set, or the address is none."""
        self._settings = settings
        base = (settings.base_url or "").rstrip("/")
        if not re.match(r"https?://[^/\s]+", base):
            raise UsageError(f"base_url {settings.base_url!r} is no address; write it like http://localhost:8000/v1")
        self._place = hashlib.sha256(base.encode()).hexdigest()[:8]
        self._base = base
        self._url = f"{base}/chat/completions"
        self._secret = ""
        if settings.api_key_env:
            self._secret = os.environ.get(settings.api_key_env, "").strip()
            if not self._secret:
                raise UsageError(
                    f"api_key_env: the environment variable {settings.api_key_env} is not set; it must hold "
                    f"the key for {base}"
                )
        self._session: aiohttp.ClientSession | None = None
        self._left_out: set[str] = set()

    @property
    def model(self) -> str:
        """The name that the server knows, a digest of its address, and whether it is held to a schema."""
        return f"{self._settings.model}@{self._place}" + ("+json_schema" if self._settings.json_schema else "")

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask once. The answer may hold fewer choices than `request.n`, where the server ignores `n`."""
        while True:
            payload = self._payload(request)
            status, headers, text = await self._post(payload)
            if status == 200:
                return _completion(text, request.n)
            field = self._refused_field(status, text, payload)
            if field is None:
                raise self._failure(status, headers, text)
            if field != "max_tokens" and field not in self._left_out:
                _LOG.warning("%s refuses the field %r, which is left out from now on", self._url, field)
            self._left_out.add(field)

    async def check(self, probe: ChatRequest) -> Completion | None:
        """Send `probe`; raise `Unreachable` where the server cannot be used. None where it is just busy."""
        try:
            return await self.complete(probe)
        except Unreachable:
            raise
        except Transient as error:
            if error.retry_after is not None or "status 429" in str(error):
                return None
            raise Unreachable(f"{error}; is the server running, and does base_url end in /v1?") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _payload(self, request: ChatRequest) -> dict[str, Any]:
        sampling = request.sampling
        # The seed comes from the whole request, so that another `sample` number gives another answer.
        seed = int.from_bytes(hashlib.sha256(request.key.encode()).digest()[:4], "big") >> 1
        limit = "max_completion_tokens" if "max_tokens" in self._left_out else "max_tokens"
        payload: dict[str, Any] = {
            "model": self._settings.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            limit: sampling.max_tokens,
            "seed": seed,
        }
        if request.n > 1:
            payload["n"] = request.n
        if request.json_schema is not None and self._settings.json_schema:
            schema = {"name": "answer", "schema": request.json_schema, "strict": True}
            payload["response_format"] = {"type": "json_schema", "json_schema": schema}
        return {name: value for name, value in payload.items() if name not in self._left_out}

    async def _post(self, payload: dict[str, Any]) -> tuple[int, Any, str]:
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._secret}"} if self._secret else {}
            self._session = aiohttp.ClientSession(
                headers=headers,
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout, sock_connect=CONNECT_SECONDS),
            )
        try:
            async with self._session.post(self._url, json=payload) as response:
                return response.status, response.headers, (await response.read()).decode("utf-8", "replace")
        except TimeoutError as error:
            raise Transient(f"{self._url} did not answer in {self._settings.timeout:g} s") from error
        except aiohttp.InvalidURL as error:
            raise Unreachable(f"{self._url} is no address; write base_url like http://localhost:8000/v1") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Transient(f"no answer from {self._url}: {error or type(error).__name__}") from error

    def _refused_field(self, status: int, text: str, payload: dict[str, Any]) -> str | None:
        """A field that this server does not know and that we can do without."""
        said, fields = _error(text)
        if status not in (400, 422) or not _REFUSED_FIELD.search(said):
            return None
        named = {fields.get("param"), *re.findall(rf"\b({'|'.join(_CAN_DO_WITHOUT)})\b", said)}
        return next((field for field in _CAN_DO_WITHOUT if field in named and field in payload), None)

    def _failure(self, status: int, headers: Any, text: str) -> ModelError:
        said = self._said(text)
        where = f"{self._url} (status {status})"
        if status == 429 and _NO_CREDIT.search(text):
            return Unreachable(f"the account at {where} has no credit left: {said}")
        if status in PASSING or status >= 500:
            return Transient(f"{where}: {said}", _seconds(headers.get("Retry-After")))
        if status in (401, 403):
            variable = self._settings.api_key_env
            hint = f"check the key in {variable}" if variable else "name the variable that holds its key in api_key_env"
            return Unreachable(f"{where} refuses access: {said}; {hint}")
        if status == 413 or (status in (400, 422) and _TOO_LONG.search(text)):
            return TooLong(f"context too long for {self._settings.model}: {said}")
        message, fields = _error(text)
        if status in (404, 405) or fields.get("code") in _WRONG_MODEL_CODES or _WRONG_MODEL.search(message):
            return Unreachable(
                f"{where} does not serve the model {self._settings.model!r}, or base_url is wrong (it ends in "
                f"/v1): {said}"
            )
        return ModelError(f"{where} refuses the request: {said}")

    def _said(self, text: str) -> str:
        text = _error(text)[0]
        if self._secret:
            text = text.replace(self._secret, "***")
        return text[:SHOWN_CHARS] + ("…" if len(text) > SHOWN_CHARS else "") or "no message"


def _error(text: str) -> tuple[str, dict[str, Any]]:
    """What a server says in a body that reports an error, on one line, and the error's fields (`code`, `param`)."""
    fields: dict[str, Any] = {}
    try:
        data = json.loads(text)
        error = data.get("error") or data.get("detail") or data.get("message") or data
        if isinstance(error, dict):
            fields = {name: value for name, value in error.items() if isinstance(value, str)}
        text = fields.get("message", text) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        pass  # not JSON: shown as it is
    return " ".join(text.split()), fields


def _completion(text: str, n: int) -> Completion:
    try:
        # The standard parser, because it reads lone surrogates, which some servers send and `orjson` refuses.
        data = json.loads(text)
    except ValueError as error:
        raise Transient(f"the server's answer is not JSON: {text[:SHOWN_CHARS]!r}") from error
    given = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(given, list) or not given:
        raise Transient(f"the server's answer has no choices: {text[:SHOWN_CHARS]!r}")
    try:
        choices = tuple(_choice(choice) for choice in given[:n])
        usage = data.get("usage") or {}
        tokens = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Transient(f"the server's answer has a form that is not known: {text[:SHOWN_CHARS]!r}") from error
    return Completion(choices=choices, usage=Usage(prompt_tokens=tokens[0], completion_tokens=tokens[1]))


def _choice(choice: dict[str, Any]) -> Choice:
    message, reason = choice["message"], choice.get("finish_reason")
    if reason == "content_filter" or message.get("refusal"):
        raise ModelError(f"the server refused to answer: {message.get('refusal') or reason}")
    content = message.get("content")
    if content is None and reason != "length":
        raise ModelError(f"the server's answer holds no text (finish_reason {reason!r})")
    text = str(content or "").replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Choice(text=text, finish="length" if reason in ("length", "max_tokens") else "stop")


def _seconds(value: str | None) -> float | None:
    """Seconds to wait by a `Retry-After` header: a number, or an HTTP date."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
