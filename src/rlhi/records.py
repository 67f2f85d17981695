"""Every record that crosses a stage border, defined once.

Records are frozen, refuse unknown fields, and are written as Parquet with the schema of `arrow_schema`.
Identity is content, never position: ids are digests of what a record is about.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "user", "assistant"]
Label = Literal[
    "new_request",
    "reattempt_with_feedback",
    "reattempt_without_feedback",
    "positive_feedback",
    "continuation",
    "other",
]
Split = Literal["train", "later", "history", "heldout", "apart"]
Dimension = Literal["personalization", "instruction_following", "overall"]
TurnKind = Literal["initial", "follow_up", "all"]


def digest(value: Any) -> str:
    """Return the 128-bit content identity of a JSON-able value or record, as 32 hex digits."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


class Record(BaseModel):
    """One immutable row; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @property
    def key(self) -> str:
        """Content identity, 32 hex digits: equal records are interchangeable."""
        return digest(self)


class ChatMessage(Record):
    """A message as TRL and every chat template read it."""

    role: Role
    """Who speaks."""
    content: str
    """The text, in Unicode without NUL or lone surrogates."""


class Message(Record):
    """A logged message."""

    role: Role
    """Who speaks."""
    content: str
    """The text, in Unicode without NUL or lone surrogates."""
    timestamp: str | None = None
    """When it was said, ISO 8601 in UTC; null where the log does not tell."""

    def chat(self) -> ChatMessage:
        """The message without its time."""
        return ChatMessage(role=self.role, content=self.content)


class Conversation(Record):
    """A cleaned conversation: an optional system message, then user and assistant in turn."""

    conversation_id: str
    """The log's own id, or a digest of user, time and messages where it has none."""
    user_id: str
    """The log's stable user id (WildChat: `hashed_ip`)."""
    started_at: str | None
    """When it began, ISO 8601 in UTC; null where the log does not tell."""
    language: str
    """ISO 639-1 code of the user's text, or `und`."""
    model: str
    """The model that answered, as the log names it; empty where it does not."""
    source: str
    """`FILE:LINE` (Parquet: row) it was read from."""
    split: Split
    """`train`; `later` = a training user's later conversations; `history` and `heldout` = a held-out user's
    earlier and later ones; `apart` = a user with too few conversations."""
    messages: tuple[Message, ...]
    """The messages in order."""
    flags: tuple[str, ...] = ()
    """What the log or the cleaning says of it: `toxic`, `redacted`, `merged_roles`, …"""

    def user_turns(self) -> list[int]:
        """Places in `messages` of the user messages; turn t (0-based) stands at the t-th of them."""
        return [place for place, message in enumerate(self.messages) if message.role == "user"]

    def context(self, turn: int) -> tuple[ChatMessage, ...]:
        """What a model sees when it answers `turn` (0-based user message): all messages up to and with it.

        The log's own system message is left out: it belongs to the deployment, not to the conversation.
        """
        end = self.user_turns()[turn]
        return tuple(m.chat() for m in self.messages[: end + 1] if m.role != "system")

    def reply(self, turn: int) -> str | None:
        """The logged reply to `turn`, or None where there is none."""
        place = self.user_turns()[turn] + 1
        return self.messages[place].content if place < len(self.messages) else None


class TurnRef(Record):
    """The address of a user message."""

    conversation_id: str
    """Conversation it stands in."""
    turn: int = Field(ge=0)
    """0-based place among the user messages of the conversation."""


class LabelledTurn(Record):
    """What a user message says of the reply before it. The first message of a conversation has no label."""

    conversation_id: str
    """Conversation it stands in."""
    turn: int = Field(ge=0)
    """0-based place among the user messages of the conversation."""
    user_id: str
    """Who wrote it."""
    label: Label
    """One of the six of the taxonomy."""
    satisfaction: int = Field(ge=1, le=5)
    """1 clear rejection, 2 correction, 3 neutral, 4 positive engagement, 5 clear satisfaction."""
    confidence: float = Field(ge=0, le=1)
    """Probability of the label in the labeler's own view, 0–1."""
    span: str
    """The words of the message that show it, verbatim; empty for the labels without evidence, and where an LLM's span
    did not stand in the message."""
    labeler: str
    """Name and version of the labeler."""


class Statement(Record):
    """One line of a persona card."""

    text: str
    """What is known of the user, one short sentence."""
    condition: str = ""
    """When it holds ("code", "recipes"); empty = always."""
    confidence: float = Field(ge=0, le=1)
    """Trust in it, 0–1."""
    evidence: tuple[TurnRef, ...] = Field(min_length=1)
    """The user messages that it was drawn from."""
    learnt_at: str | None
    """When it was last confirmed, ISO 8601 in UTC; null where the log does not tell."""


class PersonaCard(Record):
    """What is known of a user before a moment."""

    user_id: str
    """Whose card."""
    version: int = Field(ge=0)
    """Counts a user's cards from 0 (nothing known)."""
    as_of: str | None
    """Drawn only from turns before this moment, ISO 8601 in UTC; null where the log does not tell."""
    before: str
    """The conversation that this card is for: all its evidence lies in earlier ones; empty = the last card."""
    statements: tuple[Statement, ...]
    """The lines, most trusted first."""


class GateResult(Record):
    """What one quality gate said of a pair."""

    gate: str
    """Name of the gate."""
    passed: bool
    """Whether the pair may stay."""
    value: float
    """The measured figure, in the gate's unit."""
    threshold: float
    """The limit it was held against."""
    detail: str = ""
    """The judge's words, where a judge spoke."""


class Provenance(Record):
    """Why a pair exists."""

    label: str
    """Label of the message that it came from (`new_request` for a first message)."""
    span: str
    """The user's words that show it; empty for a request."""
    feedback: str
    """The user's whole feedback message; empty for a request."""
    logged_reply: str
    """The reply in the log, which the policy's own reply replaced."""
    persona_version: int
    """Version of the card in the prompt; -1 = no persona."""
    prompts: str
    """Fingerprint of the prompts used, 32 hex digits."""
    models: str
    """The models asked, `role=name` joined by `, `."""
    chosen_score: float
    """Reward of the chosen reply, in the reward model's unit."""
    rejected_score: float
    """Reward of the rejected reply, in the reward model's unit."""
    candidates: int
    """How many replies were compared."""
    gates: tuple[GateResult, ...] = ()
    """Results of all gates, in order."""


class PreferencePair(Record):
    """A training pair: TRL's conversational preference columns beside its provenance."""

    pair_id: str
    """Digest of source, conversation, turn, prompt, chosen and rejected."""
    prompt: tuple[ChatMessage, ...]
    """System message with the persona, history, and the user message to answer."""
    chosen: tuple[ChatMessage, ...]
    """The better reply, one assistant message."""
    rejected: tuple[ChatMessage, ...]
    """The worse reply, one assistant message."""
    user_id: str
    """Whose conversation."""
    conversation_id: str
    """Where it happened."""
    turn: int = Field(ge=0)
    """The user message that both replies answer, 0-based among user messages."""
    source: Literal["ugr", "ubr"]
    """User-guided rewrite or user-based reward."""
    weight: float = Field(gt=0)
    """Factor on the pair's loss."""
    provenance: Provenance
    """Why it exists."""


class Reply(Record):
    """What an arm answered to an evaluation turn."""

    arm: str
    """Name of the arm."""
    seed: int
    """Seed of the arm's training and sampling."""
    conversation_id: str
    """Conversation of the turn."""
    turn: int = Field(ge=0)
    """The user message answered, 0-based among user messages."""
    user_id: str
    """Whose turn it is."""
    persona_of: str
    """Whose persona was in the prompt; empty = none."""
    text: str
    """The reply."""


class Verdict(Record):
    """One judge's view of an arm against another on one turn, both orders already merged."""

    arm: str
    """The arm judged."""
    against: str
    """The arm it is compared with."""
    seed: int
    """Seed of both arms."""
    judge: str
    """`truth`, or the name of the judge's model."""
    dimension: Dimension
    """What was asked."""
    conversation_id: str
    """Conversation of the turn."""
    turn: int = Field(ge=0)
    """The user message answered, 0-based among user messages."""
    user_id: str
    """Whose turn it is."""
    win: float = Field(ge=0, le=1)
    """1 win, 0 loss, 0.5 tie or orders that disagree."""


class Score(Record):
    """A row of the table of results."""

    arm: str
    """The arm judged."""
    against: str
    """The arm it is compared with."""
    judge: str
    """`truth`, or a judge's name."""
    dimension: Dimension
    """What was asked."""
    turns: TurnKind
    """Which turns were counted."""
    win_rate: float = Field(ge=0, le=1)
    """Share won, ties half."""
    low: float = Field(ge=0, le=1)
    """Lower end of the 95 % interval, clustered by user."""
    high: float = Field(ge=0, le=1)
    """Upper end of the 95 % interval, clustered by user."""
    n: int
    """Verdicts counted."""
    users: int
    """Users among them."""
    length: float
    """Mean length of the arm's replies on these turns, in words."""
    length_against: float
    """Mean length of the other arm's replies on these turns, in words."""
    seeds: tuple[int, ...]
    """Seeds pooled."""


class Quarantined(Record):
    """A record of the log that could not be used, and where it stands."""

    file: str
    """Path of the file."""
    line: int
    """1-based line (JSON array: element; Parquet: row); 0 = the whole file."""
    reason: str
    """Short name of the reason, counted in the funnel."""
    detail: str
    """What was wrong, for a person."""
    excerpt: str
    """The beginning of the record, at most 200 characters."""


class Dropped(Record):
    """A row that a stage left out on purpose."""

    row: str
    """Key of the input row, 32 hex digits."""
    about: str
    """What the row was about, for a person."""
    reason: str
    """Short name of the reason, counted in the funnel."""
    detail: str = ""
    """The figures behind it."""


class Failed(Record):
    """A row that a stage could not finish."""

    row: str
    """Key of the input row, 32 hex digits."""
    about: str
    """What the row was about, for a person."""
    cause: str
    """Class of the error."""
    detail: str
    """Its message."""
