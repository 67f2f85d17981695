"""The recipe: the only configuration of a run, one YAML file validated here.

Every default that a paper gives says so; the others are our decision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from rlhi.errors import UsageError
from rlhi.settings import (
    DEFAULT_ARMS,
    LOCAL,
    TRAINED_ON,
    Arm,
    Evaluation,
    InProcess,
    Labels,
    Logs,
    Lora,
    Model,
    Pairs,
    Personas,
    Roles,
    Rollout,
    Section,
    Training,
    Ubr,
    Ugr,
)
from rlhi.yamlfile import WRONG, parse, read_yaml, validate

__all__ = [
    "DEFAULT_ARMS",
    "EMBEDDED",
    "LOCAL",
    "ROLES",
    "Arm",
    "Evaluation",
    "InProcess",
    "Labels",
    "Logs",
    "Lora",
    "Model",
    "Pairs",
    "Personas",
    "Recipe",
    "Roles",
    "Rollout",
    "Training",
    "Ubr",
    "Ugr",
    "from_data",
    "load",
    "override",
]

ROLES = ("policy", "labeler", "persona", "rewriter", "validity", "reward")


EMBEDDED = Model(backend="transformers", model="embedded")


class Recipe(Section):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run: it is written to RUNS/NAME."""
    runs: str = "runs"
    """Folder of all runs; the completion store that they share lies there. A leading `~` is the home folder."""
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    """Seeds: each trains and samples every arm once. The first also seeds the split and the pairs."""
    logs: Logs
    """What to read."""
    models: dict[str, Model] = Field(default_factory=dict)
    """Named back ends; `embedded` is always there."""
    roles: Roles = Roles()
    """Who plays which role."""
    local: InProcess = InProcess()
    """The policy in this process."""
    labels: Labels = Labels()
    """Classification."""
    personas: Personas = Personas()
    """Persona cards."""
    pairs: Pairs = Pairs()
    """Preference pairs."""
    training: Training = Training()
    """Training."""
    evaluation: Evaluation = Evaluation()
    """Evaluation."""

    @model_validator(mode="after")
    def _names_known(self) -> Recipe:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: each may stand there once, got {list(self.seeds)}")
        known = {"embedded", *self.models}
        for role in ROLES:
            name = getattr(self.roles, role)
            if name != LOCAL and name not in known:
                raise ValueError(f"roles.{role}: no model is named {name!r}; there are {sorted(known)} and `local`")
        if self.pairs.ugr.max_slip is not None and self.roles.reward != LOCAL:
            raise ValueError(
                "pairs.ugr.max_slip: only the policy in this process tells a slip; leave it out, or set roles.reward "
                "to local"
            )
        from rlhi.evaluation.judges import CHAT, JUDGES

        if taken := sorted({LOCAL, *JUDGES.names()} & set(self.models)):
            raise ValueError(f"models.{taken[0]}: this name means a part of rlhi or a judge; give it another name")
        judges = {*known, *JUDGES.names()} - {CHAT}
        for name in self.evaluation.judges:
            if name not in judges:
                raise ValueError(f"evaluation.judges: no model or judge is named {name!r}; there are {sorted(judges)}")
        return self

    def back_end(self, name: str) -> Model:
        """Settings of a back end; `local` is `training.model` in this process."""
        if name == "embedded":
            return self.models.get(name, EMBEDDED)
        if name == LOCAL:
            return EMBEDDED.model_copy(update={"model": self.training.model, **self.local.model_dump()})
        return self.models[name]

    def run_dir(self) -> Path:
        """Folder of this run."""
        return Path(self.runs).expanduser() / self.name

    def store_path(self) -> Path:
        """The completion store of this run and those beside it."""
        return Path(self.runs).expanduser() / "completions.sqlite"

    def check_arms(self) -> None:
        """Raise `UsageError` where an arm is trained on pairs that are not made."""
        for arm in self.evaluation.arms:
            for source in TRAINED_ON[arm.train]:
                if source not in self.pairs.enabled():
                    raise UsageError(
                        f"evaluation.arms: {arm.name!r} is trained on {source} pairs, and pairs.{source}.enabled is "
                        "false: switch it on, or list evaluation.arms without this arm"
                    )


def override(data: dict[str, Any], settings: list[str]) -> None:
    """Apply `--set a.b=value` (the value is YAML) to a recipe's data in place. Raises `UsageError`."""
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: write it as KEY=VALUE, for example --set training.beta=0.1")
        *parents, last = path.split(".")
        place = data
        for part in parents:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise UsageError(f"--set {setting}: {part!r} is not a section of the recipe")
        try:
            place[last] = parse(text)
        except WRONG as error:
            raise UsageError(f"--set {setting}: the value is not valid YAML: {error}") from None


def load(path: str | Path, settings: list[str] | None = None) -> Recipe:
    """Read and validate a recipe. Raises `UsageError` that names each wrong key and what would be right."""
    data = read_yaml(path, "recipe", f"`rlhi init {path}` writes a commented one")
    override(data, settings or [])
    return from_data(data, str(path))


def from_data(data: dict[str, Any], origin: str) -> Recipe:
    """Validate a recipe's data. Raises `UsageError` that names each wrong key and what would be right."""
    return validate(Recipe, data, f"recipe from {origin}", "recipe")
