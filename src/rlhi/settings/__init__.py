"""The sections of a recipe: each setting with its unit, and where a paper gives its default, the source."""

from rlhi.settings.base import LOCAL, Section, slug
from rlhi.settings.evaluation import DEFAULT_ARMS, TRAINED_ON, Arm, Evaluation, TrainedOn
from rlhi.settings.logs import Logs
from rlhi.settings.models import InProcess, Model, Roles
from rlhi.settings.pairs import PAIR_SOURCES, Pairs, PairSource, Rollout, Ubr, Ugr, pair_stage
from rlhi.settings.training import Lora, PreferenceObjective, Training
from rlhi.settings.understanding import Labels, Personas

__all__ = [
    "DEFAULT_ARMS",
    "LOCAL",
    "PAIR_SOURCES",
    "TRAINED_ON",
    "Arm",
    "Evaluation",
    "InProcess",
    "Labels",
    "Logs",
    "Lora",
    "Model",
    "PairSource",
    "Pairs",
    "Personas",
    "PreferenceObjective",
    "Roles",
    "Rollout",
    "Section",
    "TrainedOn",
    "Training",
    "Ubr",
    "Ugr",
    "pair_stage",
    "slug",
]
