"""Where a model's files lie, and what tells them from all others."""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from functools import lru_cache
from pathlib import Path

import orjson

from rlhi.errors import UsageError, first_line

_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
_IDENTITY = (
    "*.safetensors",
    "*.model",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.*",
    "vocab.*",
    "merges.txt",
)
_BLOB = re.compile(r"[0-9a-f]{64}")


def find(name: str) -> Path:
    """Folder of the model `name`: `embedded`, a path, or a name on the Hugging Face hub.

    Raises `UsageError` that says what is wrong with the name or the folder.
    """
    if name == "embedded":
        from rlhi.world import EMBEDDED_PATH

        return _checked(name, Path(EMBEDDED_PATH))
    path = Path(name).expanduser()
    if name.strip() and path.exists():
        return _checked(name, path)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise UsageError(
            f"there is no model at {name!r}: give the folder of a transformers model, a hub name such as "
            "Qwen/Qwen2.5-0.5B-Instruct, or `embedded`"
        )
    return _checked(name, _from_hub(name))


def _checked(name: str, path: Path) -> Path:
    if not path.is_dir():
        raise UsageError(f"the model {name!r} is not a folder: {path}")
    adapter = (path / "adapter_config.json").is_file()
    if not adapter and not (path / "config.json").is_file():
        raise UsageError(f"{path} holds no transformers model: config.json is missing")
    if not any(path.glob("*.safetensors")):
        raise UsageError(
            f"{path} holds no *.safetensors file, the only format of weights that is read; save the model again with "
            "`save_pretrained`"
        )
    if not _has_template(tokenizer_folder(path)):
        raise UsageError(
            f"{path} holds no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); name an "
            "instruction-tuned model"
        )
    return path


def _has_template(folder: Path) -> bool:
    config = folder / "tokenizer_config.json"
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return config.is_file() and "chat_template" in orjson.loads(config.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{config} is not JSON: {error}") from error


def tokenizer_folder(folder: Path) -> Path:
    """Where the tokenizer of the model in `folder` lies: an adapter may leave it to its base."""
    base = base_of(folder)
    return folder if base is None or (folder / "tokenizer_config.json").is_file() else find(base)


def _from_hub(name: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = list(_FILES)
    try:
        path = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        if any(path.glob("*.safetensors")):
            return path
    except LocalEntryNotFoundError:
        pass  # not downloaded yet
    if constants.HF_HUB_OFFLINE or not _answers(constants.ENDPOINT):
        raise UsageError(
            f"the model {name!r} is no folder here and was never downloaded, and the hub {constants.ENDPOINT} "
            "cannot be reached; give the path of a local model or `embedded`"
        )
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UsageError(
            f"the hub does not give the model {name!r}: {first_line(error)}; check the name and your token"
        ) from error


def _answers(address: str) -> bool:
    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310
        with urllib.request.urlopen(request, timeout=3):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def base_of(folder: Path) -> str | None:
    """Name of the model that the adapter in `folder` changes; None where it is a whole model."""
    config = folder / "adapter_config.json"
    if not config.is_file():
        return None
    base = orjson.loads(config.read_bytes()).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise UsageError(f"{config}: base_model_name_or_path is missing, the model that the adapter changes")
    return base


def context_length(folder: Path) -> int | None:
    """Most tokens that the model in `folder` reads, prompt and reply together; None where its files do not say it."""
    base = base_of(folder)
    config = orjson.loads(((find(base) if base else folder) / "config.json").read_bytes())
    told = config.get("text_config") or config
    length = told.get("max_position_embeddings", told.get("n_positions"))
    return length if isinstance(length, int) else None


def fingerprint(folder: Path) -> str:
    """Digest of the weights, configuration and tokenizer in `folder`, and of an adapter's base, as 16 hex digits."""
    files = sorted({file for pattern in _IDENTITY for file in folder.glob(pattern)})
    parts = [(f.name, _digest(f.resolve(), f.stat().st_size, f.stat().st_mtime_ns)) for f in files]
    base = base_of(folder)
    if base:
        parts.append(("base", fingerprint(find(base))))
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:16]


@lru_cache(maxsize=4096)
def _digest(file: Path, size: int, mtime_ns: int) -> str:
    if _BLOB.fullmatch(file.name):
        return file.name  # the hub's cache names a file by its own sha256
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
