from __future__ import annotations

import asyncio
import math

import pytest

from rlhi.models.base import ScoreAnswer, ScoreRequest, ScoringModel, Usage
from rlhi.models.transformers import TransformersModel
from rlhi.personas.render import system_text
from rlhi.records import ChatMessage
from rlhi.rewards.likelihood import NULL, LikelihoodReward, Plausibility
from rlhi.settings import Model
from tests.models.scripted import ScriptedModel

ASKED = (ChatMessage(role="user", content="Can you suggest some board games?"),)


class ScriptedLikelihoods(ScriptedModel):
    """Log-likelihoods by system message and reply; each reply counts as many tokens as it has words."""

    def __init__(self, table: dict[str, dict[str, float]]) -> None:
        super().__init__([])
        self.table = table

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        system = "".join(message.content for message in request.messages if message.role == "system")
        return ScoreAnswer(
            log_likelihoods=tuple(self.table[system][reply] for reply in request.replies),
            tokens=tuple(len(reply.split()) for reply in request.replies),
            usage=Usage(),
        )


def score(model: ScoringModel, fluency: float, replies: list[str], lines: tuple[str, ...]) -> list[float | None]:
    return asyncio.run(LikelihoodReward(model, fluency).score(ASKED, replies, lines))


def test_it_is_the_information_of_the_persona_and_the_mean_plausibility() -> None:
    mine = ("Prefers short answers.",)
    model = ScriptedLikelihoods(
        {system_text(mine): {"a b": -4.0, "c": -9.0}, system_text(NULL): {"a b": -7.0, "c": -8}}
    )
    assert score(model, 0, ["a b", "c"], mine) == [3.0, -1.0]
    assert score(model, 2, ["a b", "c"], mine) == [3.0 + 2 * -2.0, -1.0 + 2 * -9.0]


def test_without_a_persona_only_plausibility_is_left() -> None:
    model = ScriptedLikelihoods({system_text(NULL): {"a b": -7.0, "c": -8.0}})
    assert score(model, 2, ["a b", "c"], ()) == [2 * -3.5, 2 * -8.0]
    assert score(model, 0, ["a b", "c"], ()) == [0.0, 0.0]


def test_plausibility_is_the_mean_under_a_persona_that_says_nothing() -> None:
    model = ScriptedLikelihoods({system_text(NULL): {"a b": -7.0, "c": -8.0}})
    assert asyncio.run(Plausibility(model, 0).score(ASKED, ["a b", "c"])) == [-3.5, -8.0]


def test_what_length_explains_is_taken_off_the_plausibility() -> None:
    model = ScriptedLikelihoods({system_text(NULL): {"a b": -7.0, "c": -8.0}})
    expected = [-3.5 - 0.2 * math.log(2), -8.0]
    assert asyncio.run(Plausibility(model, 0.2).score(ASKED, ["a b", "c"])) == pytest.approx(expected)
    reward = LikelihoodReward(model, fluency=2, length_slope=0.2)
    assert asyncio.run(reward.score(ASKED, ["a b", "c"], ())) == pytest.approx([2 * one for one in expected])


GAMES = ("Azul: lay coloured tiles on a wall", "Catan: trade and build on an island")
BULLETS = "\n".join(f"- {game}" for game in GAMES)
NUMBERS = "\n".join(f"{place}. {game}" for place, game in enumerate(GAMES, 1))
HEAD = "Here are some good board games."


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("line", "better", "worse"),
    [
        ("Prefers bullet points.", f"{HEAD}\n{BULLETS}", f"{HEAD}\n{NUMBERS}"),
        ("Prefers numbered lists.", f"{HEAD}\n{NUMBERS}", f"{HEAD}\n{BULLETS}"),
        ("Prefers a friendly opening.", f"Happy to help!\n{HEAD}\n{BULLETS}", f"{HEAD}\n{BULLETS}"),
        ("Prefers to get straight to the point.", f"{HEAD}\n{BULLETS}", f"Happy to help!\n{HEAD}\n{BULLETS}"),
    ],
)
def test_the_embedded_model_knows_which_reply_a_persona_asks_for(line: str, better: str, worse: str) -> None:
    model = TransformersModel(Model(backend="transformers", model="embedded"))
    high, low = score(model, 0, [better, worse], (line,))
    assert high is not None and low is not None
    assert high > low
