"""The two ways of computing a training step, with the same numbers: on trees, or each side of each pair by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from torch import Tensor

from rlhi.errors import UsageError
from rlhi.settings import Training
from rlhi.training import step as plain
from rlhi.training.step import Precision
from rlhi.training.tokenize import Encoded, Side
from rlhi.training.trees.attention import Kernel
from rlhi.training.trees.build import Forest
from rlhi.training.trees.pack import pack
from rlhi.training.trees.step import tree_token_logps
from rlhi.training.trees.support import examine


class Step(Protocol):
    """How pairs are run through a model."""

    def passes(self, pairs: Sequence[Encoded], sides: Sequence[Side]) -> list[list[Encoded]]:
        """Cut pairs into forward passes, whatever their order."""
        ...

    def side_logps(
        self, model: Any, pairs: Sequence[Encoded], sides: Sequence[Side], precision: Precision
    ) -> dict[Side, Tensor]:
        """Log-probability of each side's reply in one pass, in nats: per side a tensor of shape [P]."""
        ...

    def share(self, pairs: Sequence[Encoded], sides: Sequence[Side], world: int, rank: int) -> list[Encoded]:
        """The pairs of one of `world` processes; together they have each pair once."""
        ...


@dataclass(frozen=True, slots=True)
class PlainStep:
    """Each side of each pair is a row of a padded batch."""

    size: int
    """Pairs per pass."""

    def passes(self, pairs: Sequence[Encoded], sides: Sequence[Side]) -> list[list[Encoded]]:
        """Like lengths together."""
        return plain.passes(pairs, sides, self.size)

    def side_logps(
        self, model: Any, pairs: Sequence[Encoded], sides: Sequence[Side], precision: Precision
    ) -> dict[Side, Tensor]:
        """One padded batch."""
        return plain.side_logps(model, pairs, sides, precision)

    def share(self, pairs: Sequence[Encoded], sides: Sequence[Side], world: int, rank: int) -> list[Encoded]:
        """Every `world`-th pair."""
        return list(pairs[rank::world])


@dataclass(frozen=True, slots=True)
class TreeStep:
    """Every token that sequences share from the start is computed once."""

    budget: int
    """Distinct tokens per pass."""
    kernel: Kernel
    """How attention is computed."""
    tiled: bool
    """Whether logits are computed in tiles."""

    def passes(self, pairs: Sequence[Encoded], sides: Sequence[Side]) -> list[list[Encoded]]:
        """Whole trees where they fit; both sides of a pair are always in one pass."""
        ordered = sorted(pairs, key=lambda pair: pair.pair_id)
        return [
            [ordered[i] for i in numbers] for numbers in pack([_whole(pair, sides) for pair in ordered], self.budget)
        ]

    def side_logps(
        self, model: Any, pairs: Sequence[Encoded], sides: Sequence[Side], precision: Precision
    ) -> dict[Side, Tensor]:
        """One packed row."""
        sequences = [(pair.prompt, pair.completion(side)) for side in sides for pair in pairs]
        logps = tree_token_logps(model, sequences, precision, kernel=self.kernel, tiled=self.tiled)
        return plain.by_side(logps, sides)

    def share(self, pairs: Sequence[Encoded], sides: Sequence[Side], world: int, rank: int) -> list[Encoded]:
        """Runs of about equally many tokens, in the order in which neighbours share most."""
        if world == 1:
            return list(pairs)
        ordered = sorted(pairs, key=lambda pair: (_whole(pair, sides), pair.pair_id))
        forest = Forest()
        news = [sum(map(forest.add, _whole(pair, sides))) for pair in ordered]
        middles = [done - new / 2 for done, new in zip(accumulate(news), news, strict=True)]
        return [
            pair
            for pair, middle in zip(ordered, middles, strict=True)
            if min(int(middle * world / forest.size), world - 1) == rank
        ]


def _whole(pair: Encoded, sides: Sequence[Side]) -> list[tuple[int, ...]]:
    return [pair.prompt + pair.completion(side) for side in sides]


def choose(model: Any, settings: Training, longest: int) -> tuple[Step, str]:
    """The step for a model whose sequences have at most `longest` tokens, and a sentence on it.

    Raises `UsageError` where the settings ask for trees and the model cannot be trusted with them.
    """
    if settings.step == "plain":
        return PlainStep(settings.micro_batch_size), "Plain step, as the recipe says."
    support = examine(model, longest)
    if support.kernel is not None:
        step = TreeStep(settings.max_tokens_per_pass, support.kernel, support.tiled)
        return step, f"Shared tokens were computed once ({support.kernel}); {support.reason}."
    if settings.step == "trees":
        raise UsageError(
            f"training.step is `trees`, but model {settings.model!r} cannot be run on trees: {support.reason}; "
            "use `auto` or `plain`"
        )
    return PlainStep(settings.micro_batch_size), f"Plain step, shared tokens were computed anew: {support.reason}."
