"""Two arms' replies to one turn, put side by side for a judge."""

from __future__ import annotations

from collections.abc import Iterable

from rlhi.evaluation.turns import EvalTurn, about_turn
from rlhi.records import Dropped, Record, Reply


class Comparison(Record):
    """What a judge compares."""

    turn: EvalTurn
    """The turn that both arms answered."""
    arm: str
    """The arm judged."""
    against: str
    """The arm it is compared with."""
    seed: int
    """Seed of both arms."""
    reply: str
    """Reply of the arm judged."""
    reply_against: str
    """Reply of the other arm."""

    @property
    def identical(self) -> bool:
        """Both arms said the same, so that no judge is needed to call it a tie."""
        return self.reply == self.reply_against


def compare(
    turns: Iterable[EvalTurn], replies: Iterable[Reply], against: str
) -> tuple[list[Comparison], list[Dropped]]:
    """Each reply of another arm beside the reply of `against` with the same seed to the same turn.

    A reply whose counterpart is missing (its row failed or was dropped) is dropped with reason `no_counterpart`.
    """
    by_turn = {(turn.conversation_id, turn.turn): turn for turn in turns}
    rows = sorted(replies, key=lambda r: (r.arm, r.seed, r.conversation_id, r.turn))
    base = {(r.seed, r.conversation_id, r.turn): r for r in rows if r.arm == against}
    compared: list[Comparison] = []
    dropped: list[Dropped] = []
    for reply in rows:
        if reply.arm == against:
            continue
        turn = by_turn.get((reply.conversation_id, reply.turn))
        other = base.get((reply.seed, reply.conversation_id, reply.turn))
        about = f"{reply.arm}, seed {reply.seed}: {about_turn(reply.conversation_id, reply.turn)}"
        if turn is None or other is None:
            missing = f"{against} has no reply to it" if turn else "the turn is not evaluated"
            dropped.append(Dropped(row=reply.key, about=about, reason="no_counterpart", detail=missing))
            continue
        compared.append(
            Comparison(
                turn=turn,
                arm=reply.arm,
                against=against,
                seed=reply.seed,
                reply=reply.text,
                reply_against=other.text,
            )
        )
    return compared, dropped
