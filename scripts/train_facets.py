"""Train the facet reader of the local persona summariser.

    python scripts/train_facets.py             # writes src/rlhi/personas/facets.safetensors
    python scripts/train_facets.py --check     # also measures on the world's test phrasings

It learns from the wishes in src/rlhi/personas/cases and from the world's train phrasings. Fixed seed; some two minutes.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from rlhi.feedback.hashing import Text, bags
from rlhi.personas import reader, wishes
from rlhi.personas.facets import FACETS, WISHES, Wish
from rlhi.personas.reader import BUCKETS, MEMBERS, FacetReader, plain

TARGET = Path(__file__).parent.parent / "src" / "rlhi" / "personas" / reader.WEIGHTS
MOULDS_PER_FILLER = 12
COPIES_OF_LISTED = 3
COPIES_OF_NOTHING = 10
CHANNELS = 24
MEMBERS_OF_ENSEMBLE = 3
HIDDEN = 64
DROPPED = 0.1
Example = tuple[str, frozenset[Wish]]

OPENINGS = {
    "en": ["", "", "", "Okay but ", "Sorry, but ", "I told you: ", "From now on ", "next time ", "Again: ", "hey, "],
    "es": ["", "", "", "Perdona, pero ", "Te lo he dicho: ", "A partir de ahora ", "la próxima vez "],
}
ASKS = {
    "en": ["{x}", "and {x}?", "what about {x}?", "and {x} too", "{x} then", "also {x}", "now {x}", "is it {x}?"],
    "es": ["{x}", "¿y {x}?", "¿y para {x}?", "¿y qué hay de {x}?", "también {x}", "ahora {x}", "¿es {x}?"],
}
_SPANISH = re.compile(r"[ñáéíóú¿¡]|\b(?:sin|con|por|que|una?|el|los|las?|más|quita|pon|deja)\b", re.IGNORECASE)
_ACCENTS = str.maketrans("áéíóúñ", "aeioun")


def written(rng: np.random.Generator) -> list[Example]:
    """The wishes written by hand: whole messages, and fillers put into moulds of their language."""
    found: list[Example] = []
    for one in wishes.said(rng, MOULDS_PER_FILLER):
        copies = 1 if not one.whole else 4 if one.wish else COPIES_OF_NOTHING
        found += [(one.text, frozenset({one.wish} if one.wish else ()))] * copies
    for one in wishes.listed():
        copies = COPIES_OF_LISTED if one.wish else COPIES_OF_NOTHING
        found += [(one.text, frozenset({one.wish} if one.wish else ()))] * copies
    for one in wishes.contrasts(rng, MOULDS_PER_FILLER):
        found.append((one.text, frozenset({one.wish} if one.wish else ())))
    found += [(text, frozenset()) for text in unwishing() for _ in range(5)]
    for language, topics in wishes.table()["topics"].items():
        shapes = wishes.frames(language) * 5 + ASKS[language] * 20
        found += [(mould.format(x=rng.choice(topics)), frozenset()) for mould in shapes]
    return found


def unwishing() -> list[str]:
    """The labeler's cases that say nothing of how answers should be."""
    folder = files("rlhi.feedback") / "cases"
    labels = ("reattempt_without_feedback", "continuation", "new_request", "other")
    blocks = [json.loads(line) for line in (folder / "general.jsonl").read_text("utf-8").splitlines()]
    contexts = [json.loads(line) for line in (folder / "contexts.jsonl").read_text("utf-8").splitlines()]
    found = [text for block in blocks if block["label"] in labels for _, text in block["messages"]]
    found += [text for context in contexts for label in labels for _, text in context["cases"].get(label, [])]
    return found + [context["request"] for context in contexts]


def world(which: Literal["train", "test"]) -> list[Example]:
    """The world's wishes and its reactions that wish nothing."""
    from rlhi.world.files import phrasings

    found: list[Example] = []
    for facet, values in phrasings("wishes", which).items():
        for value, languages in values.items():
            found += [(text, frozenset({Wish(facet, value)})) for texts in languages.values() for text in texts]
    for languages in phrasings("reactions", which).values():
        for language, texts in languages.items():
            found += [(_filled(text, topic), frozenset()) for text in texts for topic in _about(text, language)]
    return [(text, wished) for text, wished in found if text.strip()]


def _about(text: str, language: str) -> list[str]:
    return wishes.table()["topics"][language][::3] if "{topic}" in text else [""]


def _filled(text: str, topic: str) -> str:
    return text.format(wish="", right="42", topic=topic, condition="", request="what is the weather?")


def mixed(examples: list[Example], rng: np.random.Generator) -> list[Example]:
    """The examples with openings, as people type, and now and then two in one clause."""
    found: list[Example] = []
    for text, wished in examples:
        language = "es" if _SPANISH.search(text) else "en"
        opening = str(rng.choice(OPENINGS[language]))
        found.append((opening + (text[0].lower() + text[1:] if opening else text), wished))
        if rng.random() < 0.15:
            other, more = examples[rng.integers(len(examples))]
            if not {wish.facet for wish in wished} & {wish.facet for wish in more}:
                found.append((f"{text.rstrip('.!')} {'y' if language == 'es' else 'and'} {other}", wished | more))
        if rng.random() < 0.15 and len(text) > 8:
            found.append((_mistyped(text, rng), wished))
        if language == "es" and rng.random() < 0.15:
            found.append((text.lower().translate(_ACCENTS), wished))
    return found


def _mistyped(text: str, rng: np.random.Generator) -> str:
    """A text with two letters swapped, or one left out or typed twice."""
    place = int(rng.integers(1, len(text) - 2))
    here, after = text[place], text[place + 1]
    return text[:place] + (after + here, after, here + here + after)[int(rng.integers(3))] + text[place + 2 :]


class Network(torch.nn.Module):
    """The network of `FacetReader`, in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.ngrams = torch.nn.EmbeddingBag(BUCKETS, CHANNELS, mode="sum", include_last_offset=True)
        torch.nn.init.normal_(self.ngrams.weight, std=0.1)
        self.hidden = torch.nn.Linear(CHANNELS, HIDDEN)
        self.facets = torch.nn.Linear(HIDDEN, len(FACETS))
        self.wishes = torch.nn.Linear(HIDDEN, len(WISHES))

    def forward(
        self, ids: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the facets and of the wishes."""
        hidden = torch.relu(self.hidden(self.ngrams(ids, offsets, per_sample_weights=weights)))
        hidden = torch.nn.functional.dropout(hidden, 0.2, self.training)
        return self.facets(hidden), self.wishes(hidden)


def loss_of(facets: torch.Tensor, wishes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy of each facet, and cross entropy of the value in each facet spoken of; mean per example."""
    spoken = torch.stack([target[:, members].amax(1) for members in MEMBERS], dim=1)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(facets, spoken, reduction="sum")
    for members in MEMBERS:
        rows = target[:, members].amax(1) > 0
        if bool(rows.any()):
            loss = loss - (target[rows][:, members] * wishes[rows][:, members].log_softmax(1)).sum()
    return loss / len(target)


def train(examples: list[Example], epochs: int, seed: int) -> dict[str, np.ndarray]:
    """Fit the network."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    text = Text.of([plain(said) for said, _ in examples])
    grams = bags(text, text.tokens(), BUCKETS)
    scale = grams.weights()
    target = torch.tensor([[float(wish in wished) for wish in WISHES] for _, wished in examples])
    network = Network()
    optimizer = torch.optim.Adam(
        [
            {"params": network.ngrams.parameters(), "lr": 0.01},
            {"params": [p for n, p in network.named_parameters() if "ngrams" not in n], "lr": 0.003},
        ]
    )
    batch = 384
    steps = epochs * (len(examples) // batch + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    for _ in range(epochs):
        order = rng.permutation(len(examples))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            counts = grams.starts[rows + 1] - grams.starts[rows]
            offsets = np.concatenate([[0], np.cumsum(counts)])
            picked = np.arange(offsets[-1]) + np.repeat(grams.starts[rows] - offsets[:-1], counts)
            # N-grams are dropped at random, so that no single one is trusted too much.
            kept = (rng.random(len(picked)) > DROPPED).astype(np.float32) / (1 - DROPPED)
            ids, weights = torch.from_numpy(grams.ids[picked]), torch.from_numpy(scale[picked] * kept)
            facets, wished = network(ids, torch.from_numpy(offsets), weights)
            loss = loss_of(facets, wished, target[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    state = {key: value.detach().numpy() for key, value in network.state_dict().items()}
    return state


def joined(members: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Networks as the file holds them: n-gram vectors side by side in half precision, the rest stacked."""
    ngrams = np.concatenate([member["ngrams.weight"] for member in members], axis=1).astype(np.float16)
    rest = members[0].keys() - {"ngrams.weight"}
    return {"ngrams": ngrams} | {key: np.stack([member[key] for member in members]) for key in sorted(rest)}


def report(name: str, found: FacetReader, examples: list[Example], show: bool) -> None:
    """Print precision and recall of single wishes."""
    read = [set(got) for got in found.read([text for text, _ in examples])]
    right = sum(len(got & true) for got, (_, true) in zip(read, examples, strict=True))
    said, true_count = sum(map(len, read)), sum(len(true) for _, true in examples)
    print(f"{name}: precision {right / max(said, 1):.3f} recall {right / max(true_count, 1):.3f} of {true_count}")
    if show:
        for got, (text, true) in zip(read, examples, strict=True):
            if got != true:
                print("   ", text, "|", sorted(true), "|", sorted(got))


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="measure on the test phrasings too")
    parser.add_argument("--alone", action="store_true", help="show what the hand-written wishes alone misread, stop")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    start = time.monotonic()
    rng = np.random.default_rng(args.seed)
    hand, simulated = written(rng), world("train")
    if args.alone:
        # How well the hand-written wishes alone read phrasings that were not learnt: a look at generalisation.
        alone = FacetReader(joined([train(mixed(hand, rng), args.epochs, args.seed)]))
        report("hand-written only, on the world's train phrasings", alone, simulated, show=True)
        return
    members = [
        train(mixed(hand + simulated * 5, rng), args.epochs, args.seed + place) for place in range(MEMBERS_OF_ENSEMBLE)
    ]
    content = save_tensors(joined(members))
    args.out.write_bytes(content)
    print(f"{args.out} {len(content)} bytes, {time.monotonic() - start:.0f} s")
    if args.check:
        report("test phrasings", FacetReader(load_tensors(content)), world("test"), show=False)


if __name__ == "__main__":
    main()
