"""User-based rewards (docs/method.md): sample candidates under the persona, pair the best with the worst."""

from __future__ import annotations

from collections.abc import Sequence

from rlhi.flow.stage import Context, Drop, Stage
from rlhi.models.base import TooLong
from rlhi.pairs.common import failed_gate, length_gate, make_pair, replies, reward, too_long, unread
from rlhi.pairs.tasks import RequestTask, about
from rlhi.personas.render import prompt
from rlhi.recipe import Pairs
from rlhi.records import GateResult, PreferencePair, Provenance


class UbrStage(Stage[RequestTask, PreferencePair]):
    """One pair for each request whose best and worst candidate differ enough."""

    name = "pairs/ubr"
    settings: Pairs
    prompts: str
    """Fingerprint of the prompts that the reward model may use."""
    seed: int

    def about(self, row: RequestTask) -> str:
        """The turn."""
        return about(row)

    async def run(self, row: RequestTask, ctx: Context) -> Sequence[PreferencePair] | Drop:
        """Sample, score, compare."""
        if not row.lines:
            return Drop("no_persona", "nothing was known of the user before this conversation")
        if long := too_long(ctx, row.lines, row.context, self.settings.max_prompt_tokens):
            return long
        try:
            return await self._pair(row, ctx)
        except TooLong as error:
            return unread(error)

    async def _pair(self, row: RequestTask, ctx: Context) -> Sequence[PreferencePair] | Drop:
        ubr, policy, judge = self.settings.ubr, ctx.model("policy"), reward(ctx)
        messages = prompt(row.lines, row.context)
        texts = await replies(policy, messages, self.settings.rollout, n=ubr.candidates, seed=self.seed)
        candidates = sorted(set(texts))
        if len(candidates) < 2:
            return Drop("too_few_candidates", f"{len(candidates)} different finished replies of {ubr.candidates}")
        scored = [
            (score, text)
            for score, text in zip(await judge.score(row.context, candidates, row.lines), candidates, strict=True)
            if score is not None
        ]
        if len(scored) < 2:
            return Drop("too_few_scores", f"{len(scored)} of {len(candidates)} candidates could be rated")
        (low, rejected), (high, chosen) = min(scored), max(scored)
        gates = (
            GateResult(gate="margin", passed=high - low > ubr.min_margin, value=high - low, threshold=ubr.min_margin),
            length_gate(chosen, rejected, self.settings.max_length_ratio),
        )
        provenance = Provenance(
            label="new_request",
            span="",
            feedback="",
            logged_reply=row.logged_reply,
            persona_version=row.persona_version,
            prompts=self.prompts,
            models=f"policy={policy.model}, reward={judge.name}",
            chosen_score=high,
            rejected_score=low,
            candidates=len(scored),
            gates=gates,
        )
        return failed_gate(gates) or [
            make_pair(
                source="ubr",
                conversation_id=row.conversation_id,
                turn=row.turn,
                user_id=row.user_id,
                messages=messages,
                chosen=chosen,
                rejected=rejected,
                provenance=provenance,
            )
        ]
