"""Who is trained on and who is held out, and which conversations are kept for evaluation.

Users with fewer than `min_conversations` stand apart. The others are ranked by a hash of seed and id, and the first
`heldout_users` share of them, rounded, is held out; where the share is not zero and there are two users or more, at
least one is, and not all. Of each user's conversations, in time, the last `later` share is for evaluation: of a
held-out user at least one; of a trained one at least one where the share is not zero, and never all. Nothing depends on
the order of the input.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

from rlhi.logs.clean import Clean
from rlhi.logs.times import order
from rlhi.recipe import Logs
from rlhi.records import Split


def split(conversations: Iterable[Clean], settings: Logs, seed: int) -> Iterator[tuple[Clean, Split]]:
    """Give each conversation its split, in the order of user, time (none first) and id."""
    by_user: dict[str, list[Clean]] = defaultdict(list)
    for conversation in conversations:
        by_user[conversation.user_id].append(conversation)
    enough = [user for user, own in by_user.items() if len(own) >= settings.min_conversations]
    heldout = heldout_users(enough, settings.heldout_users, seed)
    for user in sorted(by_user):
        own = sorted(by_user[user], key=lambda one: (order(one.started_at), one.conversation_id))
        if len(own) < settings.min_conversations:
            yield from ((one, "apart") for one in own)
            continue
        first = len(own) - _last(len(own), settings.later, user in heldout)
        early, late = ("history", "heldout") if user in heldout else ("train", "later")
        for place, one in enumerate(own):
            yield one, late if place >= first else early  # type: ignore[misc]


def heldout_users(users: Iterable[str], share: float, seed: int) -> set[str]:
    """The users that nothing is trained on."""
    ranked = sorted(users, key=lambda user: hashlib.sha256(f"{seed}:{user}".encode()).digest())
    if share == 0 or len(ranked) < 2:
        return set()
    return set(ranked[: min(max(1, _round(share * len(ranked))), len(ranked) - 1)])


def _last(count: int, share: float, held_out: bool) -> int:
    """How many of a user's `count` conversations are for evaluation."""
    if count == 1:
        return int(held_out)
    least = int(held_out or share > 0)
    return min(max(least, _round(share * count)), count - 1)


def _round(value: float) -> int:
    """Half up, so that a share of one half does not depend on whether the count is even."""
    return math.floor(value + 0.5)
