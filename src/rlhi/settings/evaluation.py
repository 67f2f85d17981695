"""What is compared, and who judges."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from rlhi.settings.base import Section, slug
from rlhi.settings.pairs import PairSource

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
