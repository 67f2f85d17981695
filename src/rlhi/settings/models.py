"""Back ends and who plays which role."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rlhi.settings.base import LOCAL, Section

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class Model(Section):
    """A named back end."""

    backend: str
    """`openai` (any compatible server), `transformers` (in process), `classifier` (a reward model in process: sequence
    classification with one label), or another registered one."""
    model: str
    """Name that the server knows, or name or path of a transformers model; `embedded` = the shipped one."""
    base_url: str | None = None
    """Address of the server, up to and with `/v1`."""
    api_key_env: str | None = None
    """Environment variable that holds the key; the key itself never stands in a recipe."""
    concurrency: int = Field(64, ge=1)
    """Most requests under way at once."""
    timeout: float = Field(120.0, gt=0)
    """Seconds to wait for an answer."""
    retries: int = Field(5, ge=0)
    """Tries after the first, for failures that may pass."""
    batch_size: int = Field(32, ge=1)
    """Sequences per batch, in process."""
    dtype: Dtype = "auto"
    """Weights in memory, in process; `auto` = float32 on CPU, bfloat16 on GPU."""
    device: str = "auto"
    """Device, in process."""
    json_schema: bool = False
    """The server can enforce a JSON schema (`response_format`)."""
    thinking_tokens: int = Field(0, ge=0)
    """Tokens that a reasoning model may think before it answers in JSON; added to the limits of such answers (32 for a
    rating, 64 for a verdict, 200 for a label, 800 for a card)."""

    @model_validator(mode="after")
    def _address(self) -> Model:
        if self.backend == "openai" and not self.base_url:
            raise ValueError("backend `openai` needs `base_url`, for example http://localhost:8000/v1")
        address = urlsplit(self.base_url or "")
        if "@" in address.netloc or address.query or address.fragment:
            raise ValueError(
                "base_url must hold no user, password or query, for the recipe is copied into the run; put a key into "
                "an environment variable and name that in `api_key_env`"
            )
        return self


class InProcess(Section):
    """How `training.model` and the policies trained from it run in this process, where they answer and score."""

    batch_size: int = Field(32, ge=1)
    """Sequences per batch."""
    dtype: Dtype = "auto"
    """Weights in memory; `auto` = float32 on CPU, bfloat16 on GPU."""
    device: str = "auto"
    """Device, `cpu` or `cuda:1`; `auto` = a GPU where there is one."""


class Roles(Section):
    """Which back end plays which role: a name of `models`, `embedded`, or `local` = what needs no server."""

    policy: str = LOCAL
    """Answers: rollouts, candidates; `local` = `training.model` in this process. Bind a server that serves the same
    model where sampling in process is too slow."""
    labeler: str = LOCAL
    """Classifies user messages; `local` = the shipped classifier."""
    persona: str = LOCAL
    """Writes persona cards; `local` = gathers what the labelled feedback says."""
    rewriter: str = LOCAL
    """Writes a reply anew in the light of feedback; `local` = `training.model` in this process."""
    validity: str = LOCAL
    """Says whether feedback still applies to a regenerated reply; `local` = by the reward model."""
    reward: str = LOCAL
    """Scores replies under a persona: `local` = how much likelier the persona makes a reply in the policy's own
    view; a name of `models` = that chat model rates by rubric, or with back end `classifier` its reward."""
