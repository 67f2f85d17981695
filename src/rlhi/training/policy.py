"""The model to start from, prepared for training, and its tokenizer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from rlhi.errors import UsageError, first_line
from rlhi.models import products, tokenizer
from rlhi.models.weights import base_of, find
from rlhi.settings import Lora, Training


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own progress bars off the terminal: ours says what goes on."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_tokenizer(name: str) -> Any:
    """A model's tokenizer, which must have a chat template. Raises `UsageError`."""
    loaded = tokenizer.load_tokenizer(find(name))
    if loaded.chat_template is None:
        raise UsageError(f"model {name!r} has no chat template: choose a chat model, or add chat_template.jinja to it")
    return loaded


def load_causal(name: str, dtype: torch.dtype, *, in_4_bits: bool = False) -> Any:
    """A causal language model from safetensors. Raises `UsageError`.

    `in_4_bits` holds its linear layers in 4-bit NormalFloat, doubly quantised (Dettmers et al. 2023, arXiv 2305.14314,
    section 3), on this process's device; they compute in `dtype`.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    folder = find(name)
    if base_of(folder):
        raise UsageError(f"model {name!r} is an adapter: merge it into its base first, or train from the base")
    try:
        with quiet():
            return AutoModelForCausalLM.from_pretrained(
                str(folder),
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                **(_quantised(dtype) if in_4_bits else {}),
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise UsageError(f"model {name!r} cannot be loaded: {first_line(error)}") from None


def _quantised(dtype: torch.dtype) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": own_device()}}


def own_device() -> int | str:
    """The device that this process computes on."""
    return int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout to 0: preference losses compare log-probabilities, and noise in them is no information."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def add_adapter(model: Any, lora: Lora, base: str) -> Any:
    """Wrap a model with a fresh LoRA adapter; `base` is what adapter_config.json will name. Raises `UsageError`."""
    from peft import LoraConfig, get_peft_model

    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    try:
        wrapped = get_peft_model(model, config)
    except ValueError as error:
        raise UsageError(f"training.lora.target_modules={lora.target_modules!r}: {first_line(error)}") from None
    written = wrapped.peft_config["default"]
    written.base_model_name_or_path = base
    if not isinstance(written.target_modules, str):  # a set, whose order in adapter_config.json would change by process
        written.target_modules = sorted(written.target_modules)
    return wrapped


def prepare(model: Any, settings: Training) -> Any:
    """Make a loaded model ready to train: no dropout, an adapter with LoRA and QLoRA, checkpointed activations, and
    the fastest products that this processor has.
    """
    disable_dropout(model)
    if settings.method == "qlora":
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if settings.gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    ready = add_adapter(model, settings.lora, settings.model) if settings.method != "full" else model
    products.install(ready)
    return ready
