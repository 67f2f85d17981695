"""Models and tokenizers: the one to start from, prepared for training, and a trained policy read back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlhi.errors import UsageError
from rlhi.settings import Lora, Training

EMBEDDED = "embedded"


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


def resolve(name: str) -> str:
    """Name or path that transformers can load; `embedded` is the model shipped with rlhi. Raises `UsageError`."""
    if name == EMBEDDED:
        from rlhi.world import EMBEDDED_PATH

        return str(EMBEDDED_PATH)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.exists() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise UsageError(
            f"model {name!r}: there is no such folder; give a folder with config.json and safetensors weights, a hub "
            f"name such as owner/model, or `embedded`"
        )
    return name


def load_tokenizer(name: str) -> Any:
    """A model's tokenizer, which must have a chat template. Raises `UsageError`."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve(name))
    except (OSError, ValueError) as error:
        raise UsageError(f"the tokenizer of model {name!r} cannot be loaded: {_first_line(error)}") from None
    if tokenizer.chat_template is None:
        raise UsageError(f"model {name!r} has no chat template: choose a chat model, or add chat_template.jinja to it")
    return tokenizer


def load_causal(name: str, dtype: torch.dtype) -> Any:
    """A causal language model from safetensors. Raises `UsageError`."""
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            return AutoModelForCausalLM.from_pretrained(resolve(name), dtype=dtype, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"model {name!r} cannot be loaded: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


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
        raise UsageError(f"training.lora.target_modules={lora.target_modules!r}: {_first_line(error)}") from None
    wrapped.peft_config["default"].base_model_name_or_path = base
    return wrapped


def prepare(model: Any, settings: Training) -> Any:
    """Make a loaded model ready to train: no dropout, an adapter with `method: lora`, checkpointed activations."""
    disable_dropout(model)
    if settings.gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return add_adapter(model, settings.lora, settings.model) if settings.method == "lora" else model


def load_policy(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Read a trained policy back for inference, in evaluation mode; an adapter is merged into its base.

    The tokenizer lies beside it: `load_tokenizer(str(path))`. Raises `UsageError`.
    """
    if not (path / "adapter_config.json").exists():
        return load_causal(str(path), dtype).eval()
    from peft import PeftConfig, PeftModel

    base = load_causal(PeftConfig.from_pretrained(str(path)).base_model_name_or_path, dtype)
    return PeftModel.from_pretrained(base, str(path)).merge_and_unload().eval()
