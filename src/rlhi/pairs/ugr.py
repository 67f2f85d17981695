"""User-guided rewrites (docs/method.md): the reply that got feedback is written anew in the light of it.

The policy answers the request itself first, so that the rejected side is on-policy; a validity gate asks whether the
feedback still applies to that answer; the rewriter revises it; the reward model keeps a rewrite only if it is better.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from rlhi import prompts
from rlhi.flow.stage import Context, Drop, Stage
from rlhi.models.base import Sampling, TooLong
from rlhi.models.structured import ask
from rlhi.pairs.common import failed_gate, length_gate, make_pair, replies, reward, too_long, unread
from rlhi.pairs.tasks import RewriteTask, about
from rlhi.pairs.wishes import quoted
from rlhi.personas.render import prompt, system_text
from rlhi.recipe import LOCAL, Pairs
from rlhi.records import ChatMessage, GateResult, PreferencePair, Provenance
from rlhi.rewards import Reward
from rlhi.rewards.likelihood import Plausibility
from rlhi.rewards.rubric import MAX_CHARS, transcript

PROMPTS = ("rewrite", "validity", "rubric")


class Applies(BaseModel):
    """The answer that the prompt `validity` asks for."""

    model_config = ConfigDict(extra="forbid")
    applies: bool


def known(row: RewriteTask) -> tuple[str, ...]:
    """The persona from before this conversation, with the facets that the feedback adds to it."""
    return tuple(dict.fromkeys((*row.lines, *row.wishes)))


def wished(row: RewriteTask) -> tuple[str, ...]:
    """The feedback for a reward model: its facets, or where none is read in it the user's words."""
    return row.wishes or (quoted(row.feedback),)


class UgrStage(Stage[RewriteTask, PreferencePair]):
    """One pair for each feedback that still applies and leads to a better reply."""

    name = "pairs/ugr"
    settings: Pairs
    validity: str
    """`local` (by the reward model), or the name of the chat model that is asked."""
    prompts: str
    """Fingerprint of the prompts."""
    seed: int

    def about(self, row: RewriteTask) -> str:
        """The turn."""
        return about(row)

    async def run(self, row: RewriteTask, ctx: Context) -> Sequence[PreferencePair] | Drop:
        """Regenerate, check validity, rewrite, filter."""
        if long := too_long(
            ctx, row.lines, (*row.context, *self._feedback(row, row.logged_reply)), self.settings.max_prompt_tokens
        ):
            return long
        try:
            return await self._pair(row, ctx)
        except TooLong as error:
            return unread(error)

    async def _pair(self, row: RewriteTask, ctx: Context) -> Sequence[PreferencePair] | Drop:
        reply = row.logged_reply
        if self.settings.ugr.regenerate:
            fresh = await replies(
                ctx.model("policy"), prompt(row.lines, row.context), self.settings.rollout, n=1, seed=self.seed
            )
            if not fresh:
                return Drop("no_reply", "the policy's own reply was empty or cut")
            reply = fresh[0]
        valid = await self._valid(row, reply, ctx)
        if drop := failed_gate(valid):
            return drop
        rewrites = [text for text in await self._rewrites(row, reply, ctx) if text != reply]
        if not rewrites:
            return Drop("no_rewrite", "the rewriter changed nothing, or its reply was empty or cut")
        return await self._compare(row, reply, rewrites, valid, ctx)

    def _feedback(self, row: RewriteTask, reply: str) -> tuple[ChatMessage, ...]:
        return (
            ChatMessage(role="assistant", content=reply),
            ChatMessage(role="user", content=row.feedback),
        )

    async def _valid(self, row: RewriteTask, reply: str, ctx: Context) -> tuple[GateResult, ...]:
        """Does the feedback apply to `reply`, though it was given to the logged one?"""
        if reply == row.logged_reply:
            return ()
        if self.validity == LOCAL:
            most = self.settings.ugr.validity_margin
            judge: Reward = ctx.resources["validity"]
            logged, fresh = await judge.score(row.context, [row.logged_reply, reply], wished(row))
            if logged is None or fresh is None:
                return (
                    GateResult(gate="validity", passed=False, value=0, threshold=most, detail="could not be rated"),
                )
            gain = fresh - logged
            return (GateResult(gate="validity", passed=gain <= most, value=gain, threshold=most),)
        messages = prompts.render(
            "validity",
            request=prompts.clip(transcript(row.context), MAX_CHARS),
            reply=prompts.clip(reply, MAX_CHARS),
            feedback=prompts.clip(row.feedback, MAX_CHARS),
        )
        sampling = Sampling(temperature=0, max_tokens=32)
        applies = (await ask(ctx.model("validity"), messages, Applies, sampling=sampling)).applies
        return (GateResult(gate="validity", passed=applies, value=float(applies), threshold=1.0),)

    async def _rewrites(self, row: RewriteTask, reply: str, ctx: Context) -> list[str]:
        persona = system_text(known(row))
        system = prompts.render("rewrite", trusted={"persona": persona})[0]
        messages = (system, *row.context, *self._feedback(row, reply))
        return await replies(
            ctx.model("rewriter"), messages, self.settings.rollout, n=self.settings.ugr.rewrites, seed=self.seed
        )

    async def _slips(
        self, row: RewriteTask, reply: str, rewrites: list[str], ctx: Context
    ) -> dict[str, tuple[GateResult, ...]]:
        """Of each rewrite, how much less plausible it is than the reply; empty where that has no limit."""
        most = self.settings.ugr.max_slip
        if most is None:
            return {}
        judge: Plausibility = ctx.resources["plausibility"]
        before, *after = await judge.score(row.context, [reply, *rewrites])
        slips = zip(rewrites, (before - one for one in after), strict=True)
        return {
            text: (GateResult(gate="slip", passed=slip <= most, value=slip, threshold=most),) for text, slip in slips
        }

    async def _compare(
        self, row: RewriteTask, reply: str, rewrites: list[str], valid: tuple[GateResult, ...], ctx: Context
    ) -> Sequence[PreferencePair] | Drop:
        judge = reward(ctx)
        lines = tuple(dict.fromkeys((*row.lines, *wished(row))))
        rejected_score, *scores = await judge.score(row.context, [reply, *rewrites], lines)
        rated = [(score, text) for score, text in zip(scores, rewrites, strict=True) if score is not None]
        if rejected_score is None or not rated:
            return Drop("too_few_scores", "reply or rewrite could not be rated")
        slips = await self._slips(row, reply, [text for _, text in rated], ctx)
        score, chosen = max(rated, key=lambda one: (not failed_gate(slips.get(one[1], ())), one))
        least = self.settings.ugr.min_margin
        margin = score - rejected_score
        gates = (
            *valid,
            *slips.get(chosen, ()),
            GateResult(gate="quality", passed=margin > least, value=margin, threshold=least),
            length_gate(chosen, reply, self.settings.max_length_ratio),
        )
        policy, rewriter = ctx.model("policy"), ctx.model("rewriter")
        provenance = Provenance(
            label=row.label.label,
            span=row.label.span,
            feedback=row.feedback,
            logged_reply=row.logged_reply,
            persona_version=row.persona_version,
            prompts=self.prompts,
            models=f"policy={policy.model}, rewriter={rewriter.model}, reward={judge.name}",
            chosen_score=score,
            rejected_score=rejected_score,
            candidates=1 + len(rated),
            gates=gates,
        )
        return failed_gate(gates) or [
            make_pair(
                source="ugr",
                conversation_id=row.conversation_id,
                turn=row.turn,
                user_id=row.user_id,
                messages=prompt(row.lines, row.context),
                chosen=chosen,
                rejected=reply,
                provenance=provenance,
            )
        ]
