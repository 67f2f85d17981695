"""What an arm answers: its model, with the persona that the arm sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rlhi.evaluation.turns import EvalTurn
from rlhi.flow.stage import Context, Drop, Stage
from rlhi.models.base import ChatRequest, Sampling, TooLong
from rlhi.personas.render import prompt
from rlhi.records import Reply


class ReplyStage(Stage[EvalTurn, Reply]):
    """One reply of one arm, sampled with one seed, to each turn. Role asked: `policy`, bound to the arm's model."""

    name = "replies"
    arm: str
    """Name of the arm."""
    persona: Literal["none", "own", "wrong"]
    """Card in the prompt."""
    seed: int
    """Seed of the sampling."""
    temperature: float
    """Temperature."""
    top_p: float
    """Nucleus."""
    max_tokens: int
    """Limit on a reply, in tokens; what is cut there is judged as it is."""

    def about(self, row: EvalTurn) -> str:
        """The turn."""
        return row.about

    async def run(self, row: EvalTurn, ctx: Context) -> Sequence[Reply] | Drop:
        """Ask the arm's model once."""
        if self.persona == "wrong" and not row.wrong:
            return Drop("no_wrong_persona", "no other user has a different persona card")
        user, lines = {"none": ("", ()), "own": (row.user_id, row.own), "wrong": (row.wrong_user, row.wrong)}[
            self.persona
        ]
        model = ctx.model("policy")
        sampling = Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens, seed=self.seed)
        request = ChatRequest(model=model.model, messages=prompt(lines, row.context), sampling=sampling)
        try:
            answer = await model.complete(request)
        except TooLong as error:
            return Drop("prompt_too_long", str(error))
        return [
            Reply(
                arm=self.arm,
                seed=self.seed,
                conversation_id=row.conversation_id,
                turn=row.turn,
                user_id=row.user_id,
                persona_of=user if lines else "",
                text=answer.text.strip(),
            )
        ]
