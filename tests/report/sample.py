"""A run as the pipeline leaves it on disk, small but whole, for tests of the report and for looking at it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from rlhi.evaluation.control import Difference
from rlhi.flow.folder import RunFolder
from rlhi.flow.table import write_rows
from rlhi.flow.whole import write_atomic
from rlhi.personas.render import system_text
from rlhi.recipe import Evaluation, Logs, Recipe
from rlhi.records import (
    ChatMessage,
    Conversation,
    Dropped,
    Failed,
    GateResult,
    LabelledTurn,
    Message,
    PersonaCard,
    PreferencePair,
    Provenance,
    Quarantined,
    Score,
    Statement,
    TurnRef,
    digest,
)
from tests.report.stories import STORIES

THANKS = ("thanks, perfect", "great, that's it", "ok and for two people?", "hm", "No. Try again.")
LABELS = ("positive_feedback", "positive_feedback", "continuation", "other", "reattempt_without_feedback")
ARMS = {  # win rate per turn kind, words
    "base": (0.388, 0.372, 0.401, 71.2),
    "UGR + persona": (0.661, 0.634, 0.689, 47.9),
    "UBR + persona": (0.602, 0.618, 0.584, 52.3),
    "UGR+UBR + persona": (0.724, 0.703, 0.742, 46.1),
    "wrong persona": (0.431, 0.452, 0.409, 55.0),
}
SENTENCE = (
    "“UGR+UBR + persona” beats “base + persona”: it wins 72.4 % (95 % interval 66.9–77.9 %) of 960 comparisons with 36 "
    "users, judged by truth. The gain is personal: all of its 22.4 percentage points above 50 % are gone with another "
    "user's persona (“wrong persona”), where it wins 43.1 % (29.3 fewer, 95 % interval 22.1 to 36.5)."
)


def user(place: int) -> str:
    """A stable, opaque id."""
    return digest(["user", place])


def conversations() -> list[Conversation]:
    """Six users with three conversations each, told by `STORIES`."""
    made = []
    for place, (request, reply, feedback, _, rewrite, _, _) in enumerate(STORIES):
        for nth in range(3):
            day = f"2025-{3 + nth:02d}-{4 + 3 * place:02d}T09:1{nth}:00+00:00"
            texts = [request, reply, feedback, rewrite, THANKS[(place + nth) % len(THANKS)]]
            roles = ("user", "assistant", "user", "assistant", "user")
            messages = tuple(
                Message.model_validate({"role": role, "content": text, "timestamp": day})
                for role, text in zip(roles, texts, strict=True)
            )
            made.append(
                Conversation(
                    conversation_id=digest(["conversation", place, nth]),
                    user_id=user(place),
                    started_at=day,
                    language="es" if place == 3 else "en",
                    model="gpt-4-0314",
                    source=f"logs/part-{nth}.jsonl.gz:{place + 1}",
                    split="train" if place < 4 else "heldout",
                    messages=messages,
                )
            )
    return made


def labels(rows: Sequence[Conversation]) -> list[LabelledTurn]:
    """Each conversation's feedback, and what follows it."""
    found = []
    for row in rows:
        story = next(s for s in STORIES if s[0] == row.messages[0].content)
        last = row.messages[-1].content
        for turn, label, span in ((1, "reattempt_with_feedback", story[3]), (2, LABELS[THANKS.index(last)], last)):
            found.append(
                LabelledTurn.model_validate(
                    {
                        "conversation_id": row.conversation_id,
                        "turn": turn,
                        "user_id": row.user_id,
                        "label": label,
                        "satisfaction": 2 if turn == 1 else 4,
                        "confidence": 0.93,
                        "span": span,
                        "labeler": "local-1",
                    }
                )
            )
    return found


def personas(rows: Sequence[Conversation]) -> list[PersonaCard]:
    """A card per user, with an empty one before it."""
    cards = []
    for place, story in enumerate(STORIES):
        own = [row for row in rows if row.user_id == user(place)]
        statements = [
            Statement(
                text=story[5],
                condition=story[6],
                confidence=0.91,
                evidence=tuple(TurnRef(conversation_id=row.conversation_id, turn=1) for row in own),
                learnt_at=own[-1].started_at,
            ),
            Statement(
                text="Answers in few words, often without capitals.",
                confidence=0.58,
                evidence=(TurnRef(conversation_id=own[0].conversation_id, turn=2),),
                learnt_at=own[0].started_at,
            ),
        ]
        cards.append(
            PersonaCard(user_id=user(place), version=0, as_of=None, before=own[0].conversation_id, statements=())
        )
        cards.append(
            PersonaCard(
                user_id=user(place),
                version=3,
                as_of="2025-06-01T00:00:00+00:00",
                before="",
                statements=tuple(statements[: 1 + place % 2]),
            )
        )
    return cards


def pair(row: Conversation, source: str, nth: int = 0) -> PreferencePair:
    """A pair from a conversation: its feedback obeyed, or the better of two candidates."""
    request, reply, feedback, span, rewrite, statement, condition = next(
        s for s in STORIES if s[0] == row.messages[0].content
    )
    known = f"For {condition}: {statement}" if condition else statement
    system = system_text([known])
    fromfeedback = source == "ugr"
    gates = (
        GateResult(gate="validity", passed=True, value=0.83, threshold=0.5, detail="The reply is still too long."),
        GateResult(gate="reward_margin", passed=True, value=0.412, threshold=0.0),
        GateResult(gate="length_ratio", passed=True, value=len(reply) / len(rewrite), threshold=4.0),
    )
    return PreferencePair.model_validate(
        {
            "pair_id": digest([source, row.conversation_id, nth]),
            "prompt": [ChatMessage(role="system", content=system), ChatMessage(role="user", content=request)],
            "chosen": [ChatMessage(role="assistant", content=rewrite)],
            "rejected": [ChatMessage(role="assistant", content=reply)],
            "user_id": row.user_id,
            "conversation_id": row.conversation_id,
            "turn": 0,
            "source": source,
            "weight": 1.0,
            "provenance": Provenance(
                label="reattempt_with_feedback" if fromfeedback else "new_request",
                span=span if fromfeedback else "",
                feedback=feedback if fromfeedback else "",
                logged_reply=reply + " (as logged)",
                persona_version=3,
                prompts=digest("prompts"),
                models="policy=embedded, rewriter=embedded, reward=local",
                chosen_score=0.7311,
                rejected_score=0.3187,
                candidates=1 if fromfeedback else 16,
                gates=gates if fromfeedback else gates[1:],
            ),
        }
    )


def scores(judges: Sequence[str] = ("truth", "likelihood")) -> list[Score]:
    """A full table of results."""
    rows = []
    for judge, pull in zip(judges, (1.0, 0.5), strict=False):
        for arm, (whole, initial, follow_up, words) in ARMS.items():
            for dimension, shift in (("overall", 0.0), ("personalization", 0.03), ("instruction_following", -0.06)):
                for turns, rate, n in (("all", whole, 960), ("initial", initial, 480), ("follow_up", follow_up, 480)):
                    won = 0.5 + (rate + shift - 0.5) * pull
                    half = 0.055 if turns == "all" else 0.078
                    rows.append(
                        Score.model_validate(
                            {
                                "arm": arm,
                                "against": "base + persona",
                                "judge": judge,
                                "dimension": dimension,
                                "turns": turns,
                                "win_rate": won,
                                "low": won - half,
                                "high": won + half,
                                "n": n,
                                "users": 36,
                                "length": words,
                                "length_against": 55.4,
                                "seeds": (0, 1, 2),
                            }
                        )
                    )
    return rows


def absolute() -> list[dict[str, Any]]:
    """Absolute figures per arm."""
    met = {
        "base": 0.512,
        "base + persona": 0.634,
        "UGR + persona": 0.741,
        "UBR + persona": 0.702,
        "UGR+UBR + persona": 0.783,
        "wrong persona": 0.541,
    }
    return [
        {
            "arm": arm,
            "n": 930,
            "unscored": 30,
            "users": 36,
            "seeds": [0, 1, 2],
            "words": 44 + 27 * (1 - share),
            "personalization": share,
            "correctness": 0.842 - place / 400,
            "overall": share * 0.9,
            "wanted_words": 44.0,
            "wanted_low": 31.0,
            "wanted_high": 57.0,
        }
        for place, (arm, share) in enumerate(met.items())
    ]


def curve(seed: int, pull: float, steps: int = 60) -> list[dict[str, Any]]:
    """A training curve: the loss falls, accuracy and margin rise, with noise."""
    draw = random.Random(seed)
    rows = []
    for step in range(1, steps + 1):
        done = 1 - math.exp(-pull * step / 20)
        rows.append(
            {
                "step": step,
                "loss": math.log(2) - 0.42 * done + draw.gauss(0, 0.02),
                "accuracy": min(1.0, 0.52 + 0.4 * done + draw.gauss(0, 0.03)),
                "margin": 1.9 * done + draw.gauss(0, 0.06),
                "lr": 1e-6,
                "grad_norm": 0.08,
            }
        )
    return rows


def training(seed: int) -> dict[str, Any]:
    """What a training came to."""
    metrics = {"loss": 0.31, "validation_loss_before": math.log(2), "validation_accuracy_before": 0.5}
    metrics |= {"validation_loss_after": 0.37 + seed / 100, "validation_accuracy_after": 0.84 - seed / 50}
    return {
        "steps": 60,
        "pairs": 18,
        "held_out": 3,
        "metrics": metrics,
        "validation": "3 pairs of 1 user were held out.",
    }


def difference() -> Difference:
    """The arm of the verdict against its control."""
    return Difference(
        arm="UGR+UBR + persona", control="wrong persona", against="base + persona", judge="truth", win_rate=0.724,
        control_win_rate=0.431, difference=0.293, low=0.221, high=0.365, n=960, users=36,
    )  # fmt: skip


def recipe() -> Recipe:
    """The recipe of the sample."""
    return Recipe(
        name="sample",
        seeds=(0, 1, 2),
        logs=Logs(paths=("logs",)),
        evaluation=Evaluation(judges=("truth", "likelihood"), truth="world/truth"),
    )


def calls(sent: int, cached: int = 0) -> dict[str, int]:
    """A role's use of its model."""
    return {"sent": sent, "cached": cached, "prompt_tokens": 143 * sent, "completion_tokens": 52 * sent}


def lost(stage: str, reasons: dict[str, int]) -> list[Dropped]:
    """Dropped rows, so many of each reason."""
    return [
        Dropped(
            row=digest([stage, reason, nth]),
            about=f"turn 1 of conversation {digest(nth)[:8]}",
            reason=reason,
            detail=f"{reason.replace('_', ' ')}: 0.{31 + nth} against the limit 0.50",
        )
        for reason, count in reasons.items()
        for nth in range(count)
    ]


def write_run(folder: Path, *, settings: Recipe | None = None) -> Path:
    """Write the sample as the pipeline would, and return its folder."""
    run = RunFolder(folder)
    run.save_recipe((settings or recipe()).model_dump(mode="json"))
    rows = conversations()
    said = labels(rows)
    ugr = [pair(row, "ugr") for row in rows[:12]]
    ubr = [pair(row, "ubr") for row in rows[:12]]
    run.write_stage("conversations", {"v": 1}, Conversation, rows, rows_in=20, facts={"seconds": 3.2})
    run.write_stage(
        "labels",
        {"v": 1},
        LabelledTurn,
        said,
        rows_in=18,
        facts={"seconds": 1.4, "calls": {"labeler": calls(0, 36)}},
    )
    run.write_stage("personas", {"v": 1}, PersonaCard, personas(rows), rows_in=6, facts={"seconds": 0.4})
    failed = [
        Failed(row=digest("x"), about="turn 1 of conversation 5f0c", cause="RetriesSpent", detail="HTTP 503, 5 times")
    ]
    gone = lost("pairs/ugr", {"feedback_no_longer_applies": 4, "no_margin": 2})
    run.write_stage(
        "pairs/ugr",
        {"v": 1},
        PreferencePair,
        ugr,
        rows_in=19,
        dropped=gone,
        failed=failed,
        facts={"seconds": 41.7, "calls": {"policy": calls(19), "rewriter": calls(15), "reward": calls(30)}},
    )
    gone = lost("pairs/ubr", {"no_margin": 5, "prompt_too_long": 1})
    run.write_stage(
        "pairs/ubr",
        {"v": 1},
        PreferencePair,
        ubr,
        rows_in=18,
        dropped=gone,
        facts={"seconds": 88.1, "calls": {"policy": calls(288), "reward": calls(288)}},
    )
    broken = [
        Quarantined(
            file="logs/part-2.jsonl.gz", line=nth, reason=reason, detail=detail, excerpt='{"conversation_hash": "9a'
        )
        for nth, (reason, detail) in enumerate(
            [("bad_json", "unexpected end of data, column 25"), ("unknown_role", "role 'tool_result' in message 3")], 40
        )
    ]
    write_rows(folder / "quarantine" / "quarantine.parquet", Quarantined, broken)
    for arm, pull in (("ugr", 0.9), ("ubr", 0.7), ("ugr+ubr", 1.2)):
        for seed in (0, 1, 2):
            lines = b"\n".join(orjson.dumps(row) for row in curve(seed, pull))
            place = folder / "model" / arm / f"seed-{seed}"
            write_atomic(place / "curve.jsonl", lines)
            write_atomic(place / "training.json", orjson.dumps(training(seed)))
            run.finish(
                f"model/{arm}/seed-{seed}",
                {"v": 1},
                [place],
                {
                    "rows_in": 24,
                    "rows_out": 18,
                    "held_out": 3,
                    "dropped": {"too_long": 3},
                    "failed": 0,
                    "seconds": 31.5,
                },
            )
    body = {
        "scores": [score.model_dump(mode="json") for score in scores()],
        "arms": absolute(),
        "differences": [difference().model_dump(mode="json")],
        "verdict": {"sentence": SENTENCE, "arm": "UGR+UBR + persona", "judge": "truth"},
    }
    write_atomic(folder / "scores.json", orjson.dumps(body, option=orjson.OPT_INDENT_2))
    return folder
