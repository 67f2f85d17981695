"""What to read."""

from __future__ import annotations

from pydantic import Field, model_validator

from rlhi.settings.base import Section


class Logs(Section):
    """What to read, how to clean it, how to split it."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Files, folders, globs, or `hub:owner/dataset`."""
    format: str = "auto"
    """Name of a reader (`lmsys`, `wildchat`, `chatgpt`, `openwebui`, `openai`, `sharegpt`), or `auto`."""
    mapping: str | None = None
    """YAML file that says what your own columns are; all of `paths` is then read by it, and `format` stays `auto`."""
    min_conversations: int = Field(3, ge=1)
    """Users with fewer conversations are set apart (split `apart`)."""
    max_message_chars: int = Field(100_000, ge=1)
    """A conversation with a longer message is quarantined."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes to keep; empty = all."""
    keep_toxic: bool = False
    """Keep conversations that the log flags as toxic."""
    keep_redacted: bool = True
    """Keep conversations in which the log hid personal data."""
    repair_roles: bool = True
    """Merge neighbouring messages of one role; otherwise quarantine such conversations."""
    heldout_users: float = Field(0.25, ge=0, lt=1)
    """Share of users that nothing is trained on."""
    later: float = Field(0.34, ge=0, lt=1)
    """Share of each user's conversations, the last ones in time, that is kept for evaluation."""

    @model_validator(mode="after")
    def _one_way_to_read(self) -> Logs:
        if self.format == "mapping" and self.mapping is None:
            raise ValueError("format `mapping` has no meaning: name the file in `mapping`, for example my-columns.yaml")
        if self.mapping is not None and self.format not in ("auto", "mapping"):
            raise ValueError(
                f"mapping={self.mapping} reads all logs, so format={self.format!r} has no meaning: leave `format` out"
            )
        return self
