"""What is decided before the first step: who validates, which pairs each step sees, and the learning rate."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Sequence

from rlhi.settings import Training
from rlhi.training.tokenize import Encoded

MIN_PAIRS = 10
"""With fewer pairs nothing is held out."""


def hold_out(pairs: Sequence[Encoded], share: float, seed: int) -> tuple[list[Encoded], list[Encoded], str]:
    """Set whole users apart for validation: pairs to train on, pairs to validate on, and a sentence on it.

    Users come in the order of a hash of seed and user id; each is taken whose pairs still fit into `share` of all.
    Where none fits, the user with the fewest pairs is taken, unless that is more than a third of all.
    """
    counts = Counter(pair.user_id for pair in pairs)
    if share == 0:
        return list(pairs), [], "No pair was held out: `validation` is 0."
    if len(counts) < 2 or len(pairs) < MIN_PAIRS:
        return list(pairs), [], f"No pair was held out: {len(pairs)} pairs of {len(counts)} users are too few."
    room = min(math.floor(share * len(pairs) + 0.5), len(pairs) - 1)
    held: set[str] = set()
    users = sorted(counts, key=lambda user: hashlib.sha256(f"{seed}:{user}".encode()).digest())
    for user in users:
        if counts[user] <= room:
            held.add(user)
            room -= counts[user]
    if not held:
        smallest = min(users, key=lambda user: counts[user])
        if counts[smallest] > len(pairs) / 3:
            return list(pairs), [], f"No pair was held out: every user of {len(counts)} has more than a third of them."
        held = {smallest}
    training = [pair for pair in pairs if pair.user_id not in held]
    validating = [pair for pair in pairs if pair.user_id in held]
    return training, validating, f"{len(validating)} pairs of {len(held)} users were held out."


def step_batches(pairs: Sequence[Encoded], settings: Training, seed: int) -> list[list[Encoded]]:
    """The pairs of every optimizer step: each epoch sees all pairs once, in a new order drawn by `seed`.

    The pairs of one conversation come one after the other, for what they share is computed once per step: it is whole
    conversations that are shuffled, and steps are then cut off this row at `batch_size`. A conversation with more pairs
    than a step holds is shuffled in parts of that many. How a step is computed has no say in this.
    """
    groups = _groups(pairs, settings.batch_size)
    per_epoch = math.ceil(len(pairs) / settings.batch_size)
    total = math.ceil(settings.epochs * per_epoch)
    stream = random.Random(seed)
    batches: list[list[Encoded]] = []
    while len(batches) < total:
        order = list(groups)
        stream.shuffle(order)
        row = [pair for group in order for pair in group]
        batches += [row[start : start + settings.batch_size] for start in range(0, len(row), settings.batch_size)]
    return batches[:total]


def _groups(pairs: Sequence[Encoded], size: int) -> list[list[Encoded]]:
    """Conversations with their pairs from early to late, in parts of at most `size`."""
    conversations: dict[tuple[str, str], list[Encoded]] = {}
    for pair in pairs:
        conversations.setdefault((pair.user_id, pair.conversation_id or pair.pair_id), []).append(pair)
    groups: list[list[Encoded]] = []
    for conversation in conversations.values():
        ordered = sorted(conversation, key=lambda pair: (len(pair.prompt), pair.pair_id))
        groups += [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return groups


def rate_factor(step: int, total: int, settings: Training) -> float:
    """Share of the peak learning rate at a step (0-based) of `total`.

    It rises over the warm-up without ever being 0, so that the first step learns too, then follows the schedule.
    """
    warmup = math.ceil(settings.warmup_ratio * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    if settings.schedule == "linear":
        return max(0.0, 1.0 - progress)
    if settings.schedule == "cosine":
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
    return 1.0
