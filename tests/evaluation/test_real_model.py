"""Replies and likelihoods from real (tiny, random) weights instead of scripted ones."""

from __future__ import annotations

import asyncio

import pytest
import torch

from rlhi.evaluation.comparison import Comparison
from rlhi.evaluation.judges import JudgeStage
from rlhi.evaluation.replies import ReplyStage
from rlhi.flow.stage import Context, run_row
from rlhi.models.transformers import TransformersModel
from rlhi.recipe import Model
from rlhi.records import Record, Reply, Verdict
from tests.evaluation.material import comparison, eval_turn
from tests.models.tiny import make_tiny_model

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Model:
    path = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    return Model(backend="transformers", model=str(path), batch_size=4, device="cpu")


def outputs(stage: JudgeStage | ReplyStage, rows: list[Record], settings: Model) -> list[tuple[Record, ...]]:
    async def work() -> list[tuple[Record, ...]]:
        model = TransformersModel(settings)
        ctx = Context(models={"policy": model, "judge": model})
        results = await asyncio.gather(*(run_row(stage, row, ctx) for row in rows))
        await model.close()
        assert not [result.failed for result in results if result.failed]
        return [result.outputs for result in results]

    return asyncio.run(work())


def test_swapped_replies_give_the_mirrored_verdict_and_equal_ones_tie(settings: Model) -> None:
    pairs = [("a short answer", "words and more plain words"), ("30", "12 and 30"), ("same", "same")]
    rows: list[Record] = [comparison(a, b) for a, b in pairs]
    swapped: list[Record] = [comparison(b, a) for a, b in pairs]
    stage = JudgeStage(judge="likelihood", prompts="")
    wins, mirrored = (
        [[row.win for row in made if isinstance(row, Verdict)] for made in outputs(stage, given, settings)]
        for given in (rows, swapped)
    )
    assert wins == [[1 - win for win in row] for row in mirrored]
    assert wins[2] == [0.5] * 3 and all(win in (0, 1) for row in wins[:2] for win in row)
    assert isinstance(rows[0], Comparison)


def test_a_reply_depends_on_persona_and_seed_and_not_on_its_company(settings: Model) -> None:
    def texts(persona: str, seed: int, count: int) -> list[str]:
        stage = ReplyStage.model_validate(
            {"arm": "a", "persona": persona, "seed": seed, "temperature": 1, "top_p": 1, "max_tokens": 8}
        )
        made = outputs(stage, [eval_turn(f"c{i}", own=(f"Likes {i}.",)) for i in range(count)], settings)
        return [row.text for rows in made for row in rows if isinstance(row, Reply)]

    five = texts("own", 0, 5)
    assert len(set(five)) == 5
    assert texts("own", 0, 2) == five[:2]
    assert len({texts("none", 0, 1)[0], texts("wrong", 0, 1)[0], texts("own", 1, 1)[0], five[0]}) == 4
