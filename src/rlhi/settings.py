"""The sections of a recipe: each setting with its unit, and where a paper gives its default, the source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

LOCAL = "local"

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def slug(name: str) -> str:
    """A name as part of a file name: `base + persona` -> `base-persona`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


class Section(BaseModel):
    """Settings are frozen and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


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


class Labels(Section):
    """How user messages are classified."""

    max_chars: int = Field(4000, ge=100)
    """Longest excerpt of a request or reply shown to a labeler, in characters."""


class Personas(Section):
    """How cards are written."""

    every: int = Field(1, ge=1)
    """A new version of the card after so many conversations."""
    max_statements: int = Field(12, ge=1)
    """Lines on a card."""
    max_tokens: int = Field(256, ge=16)
    """Limit of the rendered card in the prompt, in the policy's tokens."""
    min_confidence: float = Field(0.4, ge=0, le=1)
    """Statements below are left out."""


class Rollout(Section):
    """How the policy answers while pairs are made (rollouts: T=1, top-p=1 in 2506.21495)."""

    temperature: float = Field(1.0, ge=0)
    """Temperature."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus."""
    max_tokens: int = Field(1024, ge=1)
    """Limit on a reply, in tokens."""


class Ugr(Section):
    """User-guided rewrites."""

    enabled: bool = True
    """Make these pairs."""
    regenerate: bool = True
    """Let the policy answer anew, so that the rejected side is on-policy; otherwise the logged reply is used."""
    rewrites: int = Field(1, ge=1)
    """Rewrites per feedback; the best by reward is kept."""
    min_confidence: float = Field(0.5, ge=0, le=1)
    """Labels below are not used."""
    validity_margin: float = 2.0
    """With `roles.validity: local`: feedback no longer applies to a reply that meets it better than the logged reply
    does by more than this; in nats, or points of the rubric."""
    min_margin: float = 0.0
    """The rewrite must beat the reply by more than this, in the reward model's unit."""
    max_slip: float | None = Field(None, ge=0)
    """With `roles.reward: local`: a rewrite is left out where the policy, not told of the user, finds it less likely
    than the reply by more than this, in nats per token: it slips. Null = no limit."""
    max_per_user: int = Field(100, ge=1)
    """Most pairs from one user; which ones is drawn by seed."""


class Ubr(Section):
    """User-based rewards."""

    enabled: bool = True
    """Make these pairs."""
    candidates: int = Field(64, ge=2)
    """Replies sampled per request."""
    min_margin: float = Field(0.0, ge=0)
    """Least difference of reward between best and worst, in the reward model's unit."""
    max_per_user: int = Field(100, ge=1)
    """Most pairs from one user; which ones is drawn by seed."""


PairSource = Literal["ugr", "ubr"]
PAIR_SOURCES: tuple[PairSource, ...] = get_args(PairSource)


def pair_stage(source: PairSource) -> str:
    """Name of the stage that makes the pairs of a source."""
    return f"pairs/{source}"


class Pairs(Section):
    """How preference pairs are made."""

    rollout: Rollout = Rollout()
    """Sampling of replies, candidates and rewrites."""
    fluency: float = Field(2.0, ge=0)
    """With `roles.reward: local`: weight of a reply's mean log-probability per token beside the nats that the persona
    adds to the whole reply."""
    length_slope: float = Field(0.0, ge=0)
    """With `roles.reward: local`: what is taken off that mean for each factor e of length, in nats; longer replies have
    likelier tokens, and their length is not why."""
    ratings: int = Field(1, ge=1)
    """With a chat model as `roles.reward`: ratings per reply; several are sampled and averaged, which breaks ties."""
    max_prompt_tokens: int = Field(4096, ge=16)
    """Longer prompts are dropped with a reason, in the policy's tokens. The limit is lower where the policy could not
    read the prompt and write a reply of the full length."""
    max_length_ratio: float = Field(4.0, gt=1)
    """Chosen and rejected may differ in length by this factor at most, in characters."""
    ugr: Ugr = Ugr()
    """User-guided rewrites."""
    ubr: Ubr = Ubr()
    """User-based rewards."""

    def enabled(self) -> tuple[PairSource, ...]:
        """The sources of pairs that are switched on."""
        return tuple(source for source in PAIR_SOURCES if getattr(self, source).enabled)


class Lora(Section):
    """Low-rank adapters (PEFT)."""

    r: int = Field(16, ge=1)
    """Rank."""
    alpha: int = Field(32, ge=1)
    """Scale."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Layers that get an adapter."""


PreferenceObjective = Literal["dpo", "ipo", "hinge", "robust", "simpo"]


class Training(Section):
    """How a policy is trained; the defaults are those of 2506.21495 on the same model and data."""

    model: str = "embedded"
    """Name or path of the transformers model to start from, also the reference; `embedded` = the shipped one."""
    objective: PreferenceObjective = "dpo"
    """Loss of the preference arms."""
    method: Literal["full", "lora", "qlora"] = "full"
    """Train all weights, an adapter, or an adapter on a base in 4 bits (bitsandbytes, on CUDA)."""
    lora: Lora = Lora()
    """Used with `method: lora` and `qlora`."""
    beta: float = Field(0.01, gt=0)
    """Strength of the tie to the reference: DPO's β. It has another scale in `ipo` (its τ) and `simpo` (2 to 10)."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of preferences taken to be wrong; with `dpo` (its conservative form) and `robust` only."""
    simpo_gamma: float = Field(0.5, ge=0)
    """Target margin of `simpo`."""
    nll_weight: float = Field(0.0, ge=0)
    """Factor on the chosen reply's mean negative log-likelihood, added to the preference loss; 0 = without."""
    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate."""
    sft_learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of SFT arms; null = the same."""
    batch_size: int = Field(32, ge=1)
    """Pairs per optimizer step."""
    step: Literal["auto", "trees", "plain"] = "auto"
    """How a step is computed, to the same loss: `trees` = tokens that sequences share from the start only once;
    `plain` = each side of each pair by itself; `auto` = trees where the model passes a check."""
    max_tokens_per_pass: int = Field(8192, ge=16)
    """Distinct tokens per forward pass on trees; a pair beyond that is a pass of its own."""
    micro_batch_size: int = Field(8, ge=1)
    """Pairs per forward pass of the plain step."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the pairs."""
    warmup_ratio: float = Field(0.1, ge=0, le=1)
    """Share of steps with rising learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Course of the learning rate after the warm-up."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's."""
    max_grad_norm: float = Field(0.1, gt=0)
    """Gradient clipping."""
    max_length: int = Field(4096, ge=16)
    """Longest pair, in tokens."""
    too_long: Literal["drop", "truncate"] = "drop"
    """A longer pair is dropped with a reason, or loses its oldest turns (never the system message); both are counted
    and listed."""
    validation: float = Field(0.1, ge=0, lt=1)
    """Share of pairs, by user, on which the loss is measured and nothing is learnt."""
    eval_steps: int | None = Field(None, ge=1)
    """Optimizer steps between measurements on the held-out pairs; null = before and after training only."""
    save_steps: int = Field(50, ge=1)
    """Optimizer steps between checkpoints."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Autocast precision."""
    gradient_checkpointing: bool = False
    """Trade time for memory."""
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    """Trackers that follow the training live; each is a package of its own."""

    @model_validator(mode="after")
    def _objective_fits(self) -> Training:
        if self.objective == "robust" and self.label_smoothing == 0:
            raise ValueError("objective `robust` needs label_smoothing between 0 and 0.5, the share of wrong labels")
        if self.label_smoothing and self.objective not in ("dpo", "robust"):
            raise ValueError(
                f"label_smoothing={self.label_smoothing:g} has no meaning with objective `{self.objective}`: "
                "it belongs to `dpo` and `robust`"
            )
        default = type(self).model_fields["simpo_gamma"].default
        if self.simpo_gamma != default and self.objective != "simpo":
            raise ValueError(f"simpo_gamma={self.simpo_gamma:g} is for `simpo`, not for objective `{self.objective}`")
        return self


TrainedOn = Literal["none", "ugr", "ubr", "ugr+ubr", "sft"]
TRAINED_ON: dict[TrainedOn, tuple[PairSource, ...]] = {
    "none": (),
    "ugr": ("ugr",),
    "ubr": ("ubr",),
    "ugr+ubr": ("ugr", "ubr"),
    "sft": ("ugr",),
}
"""Kind of training -> sources of its pairs."""


class Arm(Section):
    """What is compared: a model, and whose persona it sees."""

    name: str
    """Name in the table."""
    train: TrainedOn = "none"
    """Pairs that its policy is trained on; `sft` = the chosen sides of the rewrites."""
    persona: Literal["none", "own", "wrong"] = "own"
    """Card in the prompt: none, the user's own, or another user's."""


DEFAULT_ARMS = (
    Arm(name="base", persona="none"),
    Arm(name="base + persona"),
    Arm(name="UGR + persona", train="ugr"),
    Arm(name="UBR + persona", train="ubr"),
    Arm(name="UGR+UBR + persona", train="ugr+ubr"),
    Arm(name="wrong persona", train="ugr+ubr", persona="wrong"),
)


class Evaluation(Section):
    """UserEval: what is compared on which turns, and who judges."""

    arms: tuple[Arm, ...] = DEFAULT_ARMS
    """The arms."""
    against: str = "base + persona"
    """Arm that the others are compared with."""
    judges: tuple[str, ...] = ("likelihood",)
    """Names of `models`, `truth` (the world's), `likelihood` (statistics of the base model, needs no LLM), or judges
    that other packages register."""
    truth: str | None = None
    """Folder of the world's truth, for the judge `truth`; a leading `~` is the home folder."""
    max_turns: int = Field(500, ge=1)
    """Most turns evaluated; which ones is drawn by seed, initial and follow-up turns in equal parts."""
    include_later: bool = False
    """Also evaluate later conversations of users that were trained on."""
    temperature: float = Field(0.6, ge=0)
    """2506.21495: 0.6."""
    top_p: float = Field(0.9, gt=0, le=1)
    """2506.21495: 0.9."""
    max_tokens: int = Field(1024, ge=1)
    """Limit on a reply, in tokens."""
    bootstrap: int = Field(2000, ge=100)
    """Resamples of users for an interval."""

    def truth_dir(self) -> Path:
        """Folder of the world's truth; `~` is the home folder."""
        return Path(self.truth or "").expanduser()

    @model_validator(mode="after")
    def _arms_fit(self) -> Evaluation:
        names = [arm.name for arm in self.arms]
        if len({slug(name) for name in names}) < len(names) or "" in map(slug, names):
            raise ValueError(f"arms must differ in the letters and digits of their names, got {names}")
        if self.against not in names:
            raise ValueError(f"against={self.against!r} is no arm; the arms are {names}")
        if len({slug(name) for name in self.judges}) < len(self.judges) or "" in map(slug, self.judges):
            raise ValueError(f"judges must differ in the letters and digits of their names, got {list(self.judges)}")
        if "truth" in self.judges and not self.truth:
            raise ValueError("the judge `truth` needs `truth:`, the folder that `rlhi world` wrote")
        return self


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
