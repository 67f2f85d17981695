"""A causal language model in this process: its tokenizer, its weights, and the workers that run it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from rlhi.errors import UsageError, first_line
from rlhi.models import decoding, products, scoring, weights
from rlhi.models.base import ChatRequest, Choice, Completion, ModelError, ScoreAnswer, ScoreRequest, TooLong, Usage
from rlhi.models.batching import Pool
from rlhi.models.decoding import Row
from rlhi.models.templates import Template

VECTOR_BYTES = 128
"""Widest step of PyTorch's elementwise CPU kernels; what is left over at a tensor's end is computed in another way."""


class Engine:
    """Answers requests; every method is called from any thread and gives a future."""

    def __init__(self, folder: Path, tokenizer: Any, device: str, dtype: str, batch_size: int) -> None:
        self._device = torch.device(device)
        self._tokenizer = tokenizer
        self._template = Template(tokenizer)
        self._model = _load(folder, getattr(torch, dtype)).to(self._device).eval()
        products.install(self._model)
        self._limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self._stops = _stops(self._model, tokenizer)
        self._trees = scoring.support(self._model, self._limit or 0)
        on_cpu = self._device.type == "cpu"
        # Whole vectors only: then no row of a batch ends in a part that is rounded differently.
        lanes = VECTOR_BYTES // self._model.dtype.itemsize if on_cpu else 1
        self.rows = -(-batch_size // lanes) * lanes
        """Rows of every batch."""
        self._pool = Pool(self._write, self.rows, torch.get_num_threads() if on_cpu else 1, on_cpu)

    def complete(self, request: ChatRequest) -> Future[Completion]:
        """Write `request.n` replies."""
        prompt = self._prompt(request)
        sampling = request.sampling
        most = sampling.max_tokens if self._limit is None else min(sampling.max_tokens, self._limit - len(prompt))
        rows = [
            Row(prompt, most, sampling.temperature, sampling.top_p, stream.random(most)) for stream in _streams(request)
        ]
        answer: Future[Completion] = Future()
        _chain(self._pool.submit(rows), answer, self._completion)
        return answer

    def score(self, request: ScoreRequest) -> Future[ScoreAnswer]:
        """Say how likely each reply is."""
        prompt = self._prompt(request)
        replies = [self._template.reply(request.messages, reply) for reply in request.replies]
        longest = len(prompt) + max((len(reply) for reply in replies), default=0)
        if self._limit is not None and longest > self._limit:
            raise TooLong(f"context too long: chat and reply are {longest} tokens, the model reads {self._limit}")
        tokens = tuple(len(reply) for reply in replies)

        def run() -> ScoreAnswer:
            if self._trees.kernel is not None:
                sums = scoring.log_likelihoods(self._model, prompt, replies, self.rows, self._trees)
            else:
                sums = decoding.log_likelihoods(self._model, prompt, replies, self.rows)
            usage = Usage(prompt_tokens=len(prompt) + sum(tokens))
            return ScoreAnswer(log_likelihoods=tuple(sums), tokens=tokens, usage=usage)

        return self._pool.call(run)

    def close(self) -> None:
        """End the workers and let go of the weights."""
        self._pool.stop()
        del self._model
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _prompt(self, request: ChatRequest | ScoreRequest) -> tuple[int, ...]:
        prompt = self._template.prompt(request.messages)
        if not prompt:
            raise ModelError("the chat template makes no prompt of this chat")
        if self._limit is not None and len(prompt) >= self._limit:
            raise TooLong(f"context too long: the prompt is {len(prompt)} tokens, the model reads {self._limit}")
        return prompt

    def _write(self, rows: Sequence[Row], stopped: Callable[[], bool]) -> None:
        decoding.write(self._model, rows, self.rows, self._stops, stopped)

    def _completion(self, rows: Sequence[Row]) -> Completion:
        texts = [self._tokenizer.decode(row.tokens, skip_special_tokens=True).replace("\0", "") for row in rows]
        choices = tuple(Choice(text=text, finish=row.finish or "length") for text, row in zip(texts, rows, strict=True))
        written = sum(len(row.tokens) + (row.finish == "stop") for row in rows)
        return Completion(choices=choices, usage=Usage(prompt_tokens=len(rows[0].prompt), completion_tokens=written))


def _load(folder: Path, dtype: torch.dtype) -> Any:
    base = weights.base_of(folder)
    hub, bars = transformers.utils.logging, transformers.utils.logging.is_progress_bar_enabled()
    hub.disable_progress_bar()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            weights.find(base) if base else folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        if base:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    except Exception as error:  # the loaders raise a dozen types for files that are broken or unknown to them
        raise UsageError(f"cannot load the model in {folder}: {type(error).__name__}: {first_line(error)}") from error
    finally:
        if bars:
            hub.enable_progress_bar()
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if getattr(model, "_is_stateful", False) or kinds & {"linear_attention", "mamba", "conv"}:
        raise UsageError(
            f"the model in {folder} keeps a state other than keys and values, which the in-process back end cannot "
            "run; serve it and use the back end `openai`"
        )
    return model


def _stops(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id
    ids = set(configured if isinstance(configured, list) else [configured]) | {tokenizer.eos_token_id}
    return frozenset(ids - {None})


def _streams(request: ChatRequest) -> list[np.random.Generator]:
    """One random stream for each of the `n` replies, from the request's content."""
    seeds = (hashlib.sha256(f"{request.key}:{number}".encode()).digest()[:16] for number in range(request.n))
    return [np.random.Generator(np.random.Philox(key=int.from_bytes(seed, "big"))) for seed in seeds]


def _chain(source: Future[Any], target: Future[Any], convert: Callable[[Any], Any]) -> None:
    """Give `target` what `convert` makes of the result of `source`, and cancel `source` when `target` is cancelled."""

    def pass_on(done: Future[Any]) -> None:
        if done.cancelled() or not target.set_running_or_notify_cancel():
            return
        error = done.exception()
        if error is not None:
            target.set_exception(error)
            return
        try:
            target.set_result(convert(done.result()))
        except Exception as failure:  # it belongs to who waits for the answer
            target.set_exception(failure)

    target.add_done_callback(lambda done: source.cancel() if done.cancelled() else None)
    source.add_done_callback(pass_on)
