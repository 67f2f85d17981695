"""Writes a folder of chat logs, good and broken, in all formats, and says what must become of each record.

`python -m tests.logs.broken FOLDER` writes the folder of the acceptance list: 10 000 good and 2 000 broken records, and
four files that are broken as a whole.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

LONG = 5_000_000
"""Characters of an over-long message."""
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
WORDS = (
    "write",
    "a",
    "short",
    "letter",
    "to",
    "my",
    "landlord",
    "about",
    "the",
    "broken",
    "heating",
    "politely",
    "please",
)


@dataclass
class Expected:
    """What must become of a folder."""

    good: set[str] = field(default_factory=set)
    """Ids of the conversations that must be in the data."""
    refused: dict[tuple[str, int], str] = field(default_factory=dict)
    """Reason for each record that must be in quarantine, by file name and line."""
    read: int = 0
    """Records in the files that can be read to their end."""

    def reasons(self) -> Counter[str]:
        """How often each reason must be given."""
        return Counter(self.refused.values())


class Writer:
    """Makes records from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.made = 0

    def turns(self) -> list[tuple[str, str]]:
        """Two to six messages, no two conversations alike."""
        self.made += 1
        said = [("user", f"No. {self.made}: " + " ".join(self.rng.sample(WORDS, 8)))]
        for _ in range(self.rng.randint(1, 5)):
            role = "assistant" if said[-1][0] == "user" else "user"
            said.append((role, " ".join(self.rng.sample(WORDS, 10))))
        return said

    def time(self) -> str:
        """A time in 2024."""
        return f"2024-{self.made % 12 + 1:02}-{self.made % 28 + 1:02}T{self.made % 24:02}:{self.made % 60:02}:00+00:00"

    def wildchat(self) -> dict[str, Any]:
        """A row of WildChat."""
        said = self.turns()
        return {
            "conversation_hash": f"w{self.made}",
            "model": "gpt-4-0314",
            "timestamp": self.time(),
            "conversation": [{"role": role, "content": text, "language": "English"} for role, text in said],
            "turn": len(said) // 2,
            "language": "English",
            "toxic": False,
            "redacted": False,
            "hashed_ip": f"ip{self.rng.randint(0, 300)}",
        }

    def openai(self) -> dict[str, Any]:
        """A row of OpenAI messages."""
        said = self.turns()
        return {
            "id": f"w{self.made}",
            "metadata": {"user_id": f"ip{self.rng.randint(0, 300)}"},
            "created": 1_700_000_000 + self.made,
            "messages": [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said],
        }

    def sharegpt(self) -> dict[str, Any]:
        """A row of ShareGPT."""
        names = {"user": "human", "assistant": "gpt"}
        said = self.turns()
        return {
            "id": f"w{self.made}",
            "user_id": f"ip{self.rng.randint(0, 300)}",
            "conversations": [{"from": names[role], "value": text} for role, text in said],
        }


def _cut(row: dict[str, Any], text: bytes) -> bytes:
    return text[: len(text) // 2]


def _wrong_type(row: dict[str, Any], text: bytes) -> bytes:
    return json.dumps({**row, "conversation": "a text"}).encode()


def _wrong_content(row: dict[str, Any], text: bytes) -> bytes:
    row["conversation"][-1]["content"] = 7
    return json.dumps(row).encode()


def _unknown_role(row: dict[str, Any], text: bytes) -> bytes:
    row["conversation"][-1]["role"] = "narrator"
    return json.dumps(row).encode()


def _nul(row: dict[str, Any], text: bytes) -> bytes:
    row["conversation"][0]["content"] += "\0"
    return json.dumps(row).encode()


def _surrogate(row: dict[str, Any], text: bytes) -> bytes:
    row["conversation"][0]["content"] += "\ud83d"
    return json.dumps(row).encode()


def _empty(row: dict[str, Any], text: bytes) -> bytes:
    return json.dumps({**row, "conversation": []}).encode()


def _latin1(row: dict[str, Any], text: bytes) -> bytes:
    row["conversation"][0]["content"] += " café"
    return json.dumps(row, ensure_ascii=False).encode("latin-1")


def _no_object(row: dict[str, Any], text: bytes) -> bytes:
    return json.dumps(row["conversation"]).encode()


def _no_columns(row: dict[str, Any], text: bytes) -> bytes:
    return b'{"question": "2 + 2", "answer": "4"}'


def _bad_time(row: dict[str, Any], text: bytes) -> bytes:
    return json.dumps({**row, "timestamp": "the day before yesterday"}).encode()


FAULTS = {
    _cut: "invalid_json",
    _wrong_type: "wrong_type",
    _wrong_content: "wrong_type",
    _unknown_role: "unknown_role",
    _nul: "invalid_text",
    _surrogate: "invalid_text",
    _empty: "empty_conversation",
    _latin1: "invalid_utf8",
    _no_object: "not_an_object",
    _no_columns: "unknown_format",
    _bad_time: "invalid_time",
}


def write_folder(folder: Path, good: int, broken: int, seed: int = 0) -> Expected:
    """Write `good` and `broken` records under `folder` (new), and four files broken as a whole."""
    folder.mkdir(parents=True)
    writer, expected = Writer(seed), Expected()
    _write_good(folder, writer, expected, good - good // 2)
    _write_mixed(folder, writer, expected, good // 2, broken)
    expected.read = good + broken
    (folder / "empty.jsonl").write_bytes(b"")
    (folder / "picture.png").write_bytes(PNG)
    (folder / "picture.jsonl").write_bytes(PNG)
    (folder / "bad.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"no zstd at all" * 20)
    whole = {"empty.jsonl": "empty_file", "picture.png": "unknown_format", "picture.jsonl": "unknown_format"}
    expected.refused.update({(name, 0): reason for name, reason in whole.items()})
    expected.refused["bad.jsonl.zst", 0] = "broken_stream"
    return expected


def _write_good(folder: Path, writer: Writer, expected: Expected, count: int) -> None:
    """Good records in every format and container."""
    makers = [writer.wildchat, writer.openai, writer.sharegpt, writer.wildchat, writer.wildchat, writer.wildchat]
    batches: list[list[dict[str, Any]]] = [[] for _ in makers]
    for number in range(count):
        row = makers[number % len(makers)]()
        batches[number % len(makers)].append(row)
        expected.good.add(f"w{writer.made}")
    plain, parts, shared, zipped, squeezed, table = batches
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "plain.jsonl").write_bytes(lines(plain))
    (folder / "parts.json").write_text(json.dumps(parts, indent=1))
    (folder / "deep" / "shared.json").write_bytes(b"[" + b",\n".join(lines(shared).splitlines()) + b"]")
    (folder / "deep" / "er" / "zipped.jsonl.gz").write_bytes(gzip.compress(lines(zipped), mtime=0))
    (folder / "deep" / "squeezed.jsonl.zst").write_bytes(pa.compress(lines(squeezed), codec="zstd", asbytes=True))
    pq.write_table(pa.Table.from_pylist(table), folder / "table.parquet", row_group_size=100)


def _write_mixed(folder: Path, writer: Writer, expected: Expected, good: int, broken: int) -> None:
    """One JSONL file with good and broken records in random order."""
    kinds = ["good"] * good + ["broken"] * broken
    writer.rng.shuffle(kinds)
    faults = list(FAULTS)
    first = writer.wildchat()
    written, count, name = [], 0, "mixed.jsonl"
    for line, kind in enumerate(kinds, start=1):
        row = writer.wildchat()
        text = json.dumps(row).encode()
        if kind == "good":
            expected.good.add(row["conversation_hash"])
            first = row
        elif count % 50 == 0 and count < 400:
            row["conversation"][-1]["content"] = "x" * LONG
            text = json.dumps(row).encode()
            expected.refused[name, line] = "message_too_long"
        elif count % 10 == 1 and first["conversation_hash"] in expected.good:
            row["conversation_hash"] = first["conversation_hash"]
            row["conversation"] = row["conversation"][:1]
            text = json.dumps(row).encode()
            expected.refused[name, line] = "duplicate_id"
            first["conversation_hash"] = ""
        elif count % 10 == 2:
            row["conversation"][0]["timestamp"] = "2024-02-02 10:00:00"
            row["conversation"][1]["timestamp"] = "2024-02-02 09:00:00"
            text = json.dumps(row).encode()
            expected.good.add(row["conversation_hash"])
        else:
            fault = faults[count % len(faults)]
            text = fault(row, text)
            expected.refused[name, line] = FAULTS[fault]
        count += kind == "broken"
        written.append(text)
    (folder / name).write_bytes(b"\n".join(written) + b"\n")


def lines(rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


if __name__ == "__main__":
    made = write_folder(Path(sys.argv[1]), 10_000, 2_000)
    sys.stdout.write(f"{len(made.good)} conversations, {sum(made.reasons().values())} refused: {made.reasons()}\n")
