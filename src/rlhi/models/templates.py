"""Chats as token ids, by a tokenizer's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlhi.models.base import ModelError
from rlhi.records import ChatMessage


class Template:
    """A tokenizer's chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def prompt(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """Token ids of a chat up to where the assistant starts to answer. Raises `ModelError`."""
        return self._ids(self._render(messages, True))

    def reply(self, messages: Sequence[ChatMessage], reply: str) -> tuple[int, ...]:
        """Token ids of an answer to `messages` with its end of turn, as the template writes it.

        They are what the rendered chat has beyond the prompt: in tokens where the prompt's tokens begin the chat's,
        else in text. A template that writes the prompt's part of a finished chat in another way (some drop the
        reasoning of earlier turns) leaves only the reply's own tokens and the tokenizer's end token. Raises
        `ModelError`.
        """
        before = self._render(messages, True)
        after = self._render([*messages, ChatMessage(role="assistant", content=reply)], False)
        prompt, chat = self._ids(before), self._ids(after)
        if chat[: len(prompt)] == prompt:
            return chat[len(prompt) :]
        if after.startswith(before):
            return self._ids(after[len(before) :])
        end = self._tokenizer.eos_token_id
        return (*self._ids(reply), *(() if end is None else (end,)))

    def chat(self, messages: Sequence[ChatMessage], reply: str) -> tuple[int, ...]:
        """Token ids of a chat that ends with an answer. Raises `ModelError`."""
        return self._ids(self._render([*messages, ChatMessage(role="assistant", content=reply)], False))

    def _render(self, messages: Sequence[ChatMessage], ask: bool) -> str:
        from jinja2 import TemplateError

        chat = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text: str = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=ask)
        except TemplateError as error:
            roles = ", ".join(message.role for message in messages)
            raise ModelError(f"the model's chat template refuses a chat of roles [{roles}]: {error}") from error
        return text

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])
