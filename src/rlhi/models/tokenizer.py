"""The one way in which a tokenizer is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlhi.errors import UsageError, first_line
from rlhi.models.weights import tokenizer_folder


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of the model in `folder`; no code of the model's is run. Raises `UsageError`."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(tokenizer_folder(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the loaders raise a dozen types for files that are broken or unknown to them
        raise UsageError(f"cannot load the tokenizer in {folder}: {first_line(error)}") from error
