"""Train the local labeler from the shipped cases and from simulated users who speak in the train phrasings.

    python scripts/train_labeler.py            # writes src/rlhi/feedback/labeler.safetensors
    python scripts/train_labeler.py --check    # also measures on users who speak in the test phrasings

Fixed seeds; a few minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as save_tensors

from rlhi.feedback import local
from rlhi.feedback.features import BUCKETS, CONTEXT_FEATURES, Exchange, common_words, features
from rlhi.feedback.local import LocalLabeler
from rlhi.feedback.taxonomy import LABELS
from rlhi.personas import wishes
from rlhi.records import Label

HIDDEN = 48
CHANNELS = 16
COMMON = 500
TARGET = Path(__file__).parent.parent / "src" / "rlhi" / "feedback" / local.WEIGHTS


@dataclass(frozen=True)
class Case:
    """A labelled exchange."""

    exchange: Exchange
    label: Label
    satisfaction: int
    group: str
    """Cases of one group are held out together."""
    weight: float = 1.0


def written_cases(rng: np.random.Generator, copies: int) -> list[Case]:
    """The cases that were written by hand; those without a context are put into `copies` contexts of their language."""
    folder = files("rlhi.feedback") / "cases"
    contexts = [json.loads(line) for line in (folder / "contexts.jsonl").read_text("utf-8").splitlines()]
    general = [json.loads(line) for line in (folder / "general.jsonl").read_text("utf-8").splitlines()]
    cases = [
        Case(Exchange(context["request"], context["reply"], text, _earlier(contexts, rng)), label, level, text, 2.0)
        for context in contexts
        for label, messages in context["cases"].items()
        for level, text in messages
    ]
    for block in general:
        same = [context for context in contexts if context["language"] == block["language"]] or contexts
        for level, text in block["messages"]:
            for _ in range(copies):
                context = same[rng.integers(len(same))]
                exchange = Exchange(context["request"], context["reply"], text, _earlier(contexts, rng))
                cases.append(Case(exchange, block["label"], level, text, 2.0 / copies))
    cases += _with_pasted_text(cases, contexts, rng)
    for said in wishes.complaints(rng, moulds=3):
        same = [context for context in contexts if context["language"] == said.language] or contexts
        context = same[rng.integers(len(same))]
        exchange = Exchange(context["request"], context["reply"], said.text, _earlier(contexts, rng))
        cases.append(Case(exchange, "reattempt_with_feedback", 2, said.text, 0.3))
    return cases


def _with_pasted_text(cases: list[Case], contexts: list[dict[str, str]], rng: np.random.Generator) -> list[Case]:
    """Copies of some cases with a text pasted below the message, as people do: length alone says little."""
    found = []
    for case in cases:
        often = {"new_request": 0.5, "continuation": 0.2, "reattempt_with_feedback": 0.15}.get(case.label, 0.0)
        if rng.random() < often * case.weight / 2:
            pasted = " ".join(
                contexts[place]["reply"] for place in rng.integers(len(contexts), size=rng.integers(1, 6))
            )
            message = f"{case.exchange.message}\n\n{pasted}"
            found.append(replace(case, exchange=replace(case.exchange, message=message)))
    return found


def _earlier(contexts: list[dict[str, str]], rng: np.random.Generator) -> str:
    return "" if rng.random() < 0.5 else contexts[rng.integers(len(contexts))]["request"]


def world_cases(users: int, seed: int, phrasings: str) -> list[Case]:
    """Every labelled turn of simulated users."""
    from rlhi.world.simulate import write_world

    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        write_world(out, users=users, seed=seed, phrasings=phrasings)  # type: ignore[arg-type]
        said: dict[str, list[dict[str, str]]] = {}
        for path in sorted((out / "logs").iterdir()):
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    said[row["conversation_hash"]] = row["conversation"]
        truth = [json.loads(line) for line in (out / "truth" / "turns.jsonl").read_text("utf-8").splitlines()]
    return [
        Case(_exchange(said[turn["conversation_id"]], turn["turn"]), turn["label"], turn["satisfaction"], "world")
        for turn in truth
        if turn["turn"] > 0
    ]


def _exchange(messages: list[dict[str, str]], turn: int) -> Exchange:
    places = [place for place, message in enumerate(messages) if message["role"] == "user"]
    users = [messages[place]["content"] for place in places]
    reply = messages[places[turn] - 1]["content"]
    return Exchange(users[turn - 1], reply, users[turn], "\n".join(users[: turn - 1]))


class Network(torch.nn.Module):
    """The network of `LocalLabeler`, in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.ngrams = torch.nn.EmbeddingBag(BUCKETS, len(LABELS) + CHANNELS, mode="sum", include_last_offset=True)
        torch.nn.init.normal_(self.ngrams.weight, std=0.05)
        with torch.no_grad():
            self.ngrams.weight[:, : len(LABELS)] = 0
        self.hidden = torch.nn.Linear(CHANNELS + len(CONTEXT_FEATURES), HIDDEN)
        self.out = torch.nn.Linear(HIDDEN, len(LABELS) + 1)
        self.thresholds = torch.nn.Parameter(torch.tensor([-2.0, -0.7, 0.7, 2.0]))

    def forward(
        self, ids: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor, context: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Label logits and satisfaction score."""
        summed = self.ngrams(ids, offsets, per_sample_weights=weights)
        hidden = torch.relu(self.hidden(torch.cat([summed[:, len(LABELS) :], context], dim=1)))
        out = self.out(torch.nn.functional.dropout(hidden, 0.1, self.training))
        return out[:, : len(LABELS)] + summed[:, : len(LABELS)], out[:, len(LABELS)]


def train(cases: list[Case], common: NDArray[np.uint64], epochs: int, seed: int) -> Network:
    """Fit the network: cross entropy of the label, and of each satisfaction threshold."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    inputs = features([case.exchange for case in cases], common)
    labels = torch.tensor([LABELS.index(case.label) for case in cases])
    above = torch.tensor([[float(case.satisfaction > level) for level in (1, 2, 3, 4)] for case in cases])
    share = torch.tensor([case.weight for case in cases])
    scale = inputs.bags.weights()
    network = Network()
    optimizer = torch.optim.AdamW(
        [
            {"params": network.ngrams.parameters(), "lr": 0.01, "weight_decay": 0.0},
            {"params": [p for n, p in network.named_parameters() if "ngrams" not in n], "lr": 0.004},
        ]
    )
    batch = 256
    steps = epochs * (len(cases) // batch + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    for _ in range(epochs):
        order = rng.permutation(len(cases))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            spans = [np.arange(inputs.bags.starts[row], inputs.bags.starts[row + 1]) for row in rows]
            # N-grams are dropped at random, so that no single one is trusted too much.
            spans = [span[rng.random(len(span)) > 0.25] for span in spans]
            offsets = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
            picked = np.concatenate(spans)
            logits, score = network(
                torch.from_numpy(inputs.bags.ids[picked]),
                torch.from_numpy(offsets),
                torch.from_numpy(scale[picked] / 0.75),
                torch.from_numpy(inputs.context[rows]),
            )
            label_loss = torch.nn.functional.cross_entropy(logits, labels[rows], reduction="none", label_smoothing=0.03)
            level_loss = torch.nn.functional.binary_cross_entropy_with_logits(
                score[:, None] - network.thresholds, above[rows], reduction="none"
            ).mean(1)
            decay = 1e-4 * network.ngrams.weight[torch.from_numpy(inputs.bags.ids[picked])].pow(2).sum(1).mean()
            loss = ((label_loss + level_loss) * share[rows]).mean() + decay
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def tensors(network: Network, common: NDArray[np.uint64], temperature: float) -> dict[str, NDArray[Any]]:
    """The network as the file holds it: n-gram vectors in half precision."""
    state = {key: value.detach().numpy() for key, value in network.state_dict().items()}
    return {
        "ngrams": state["ngrams.weight"].astype(np.float16),
        "hidden.weight": state["hidden.weight"],
        "hidden.bias": state["hidden.bias"],
        "out.weight": state["out.weight"],
        "out.bias": state["out.bias"],
        "thresholds": state["thresholds"],
        "common": common,
        "temperature": np.array([temperature], dtype=np.float32),
    }


def temperature_of(network: Network, common: NDArray[np.uint64], cases: list[Case]) -> float:
    """The temperature that gives held-out cases the greatest likelihood."""
    labels = np.array([LABELS.index(case.label) for case in cases])
    weights = np.array([case.weight for case in cases])
    exchanges = [case.exchange for case in cases]

    def loss(temperature: float) -> float:
        chances = LocalLabeler(tensors(network, common, temperature), "").probabilities(exchanges)
        return float(-(weights * np.log(chances[np.arange(len(labels)), labels] + 1e-9)).sum())

    return float(min(np.arange(0.6, 4.01, 0.1), key=loss))


def report(name: str, labeler: LocalLabeler, cases: list[Case]) -> float:
    """Print precision, recall and F1 of each label; return the macro-F1."""
    found = labeler.label([case.exchange for case in cases])
    scores = []
    print(f"{name}: {len(cases)} cases")
    for label in LABELS:
        right = sum(a.label == label == c.label for a, c in zip(found, cases, strict=True))
        said = sum(a.label == label for a in found)
        true = sum(c.label == label for c in cases)
        precision, recall = right / max(said, 1), right / max(true, 1)
        scores.append(2 * precision * recall / max(precision + recall, 1e-9))
        print(f"  {label:26s} P {precision:.3f} R {recall:.3f} F1 {scores[-1]:.3f} n {true}")
    confident = float(np.mean([a.confidence for a in found]))
    accuracy = float(np.mean([a.label == c.label for a, c in zip(found, cases, strict=True)]))
    error = float(np.mean([abs(a.satisfaction - c.satisfaction) for a, c in zip(found, cases, strict=True)]))
    print(f"  macro-F1 {np.mean(scores):.4f} accuracy {accuracy:.3f} mean confidence {confident:.3f} MAE {error:.3f}")
    return float(np.mean(scores))


def main() -> None:
    """Train, calibrate, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--users", type=int, default=150, help="simulated users to learn from")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="measure on the test phrasings too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    start = time.monotonic()
    rng = np.random.default_rng(args.seed)
    written = written_cases(rng, copies=4)
    world = world_cases(args.users, 1000 + args.seed, "train") if args.users else []
    said = [text for case in written + world for text in (case.exchange.request, case.exchange.message)]
    common = common_words(said, COMMON)
    texts = sorted({case.group for case in written})
    apart = set(rng.choice(texts, size=len(texts) // 6, replace=False))
    held_out = [case for case in written if case.group in apart]
    first = train([case for case in written if case.group not in apart] + world, common, args.epochs, args.seed)
    temperature = temperature_of(first, common, held_out)
    report("held-out written cases", LocalLabeler(tensors(first, common, temperature), ""), held_out)
    content = save_tensors(tensors(train(written + world, common, args.epochs, args.seed), common, temperature))
    args.out.write_bytes(content)
    print(f"{args.out} {len(content)} bytes, temperature {temperature:.1f}, {time.monotonic() - start:.0f} s")
    if args.check:
        from safetensors.numpy import load

        labeler = LocalLabeler(load(content), "")
        report("world, test phrasings", labeler, world_cases(40, 7, "test"))


if __name__ == "__main__":
    main()
