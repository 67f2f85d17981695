"""Files of every kind and container, whole and broken."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhi.errors import StageError, UsageError
from rlhi.logs import documents, files, ingest, streams
from rlhi.logs.rows import Row, file_rows
from rlhi.recipe import Logs
from rlhi.records import Quarantined
from tests.logs.broken import PNG, Writer, lines


def chat(number: int, **fields: Any) -> dict[str, Any]:
    """A row."""
    return {"id": f"c{number}", "messages": [{"role": "user", "content": f"say {number}"}], **fields}


CHATS = [chat(number) for number in range(5)]


def read(path: Path) -> tuple[list[Any], list[tuple[int, str]]]:
    """The rows of a file with their places, and what is in quarantine of it."""
    found = list(file_rows(path, lambda present: present))
    rows = [(item.line, item.data) for item in found if isinstance(item, Row)]
    return rows, [(item.line, item.reason) for item in found if isinstance(item, Quarantined)]


def zstd(data: bytes) -> bytes:
    """Compress."""
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


def two_frames(data: bytes) -> bytes:
    """Compress in two frames: of a block that is cut, zstd can tell nothing."""
    return zstd(data[: len(data) // 2]) + zstd(data[len(data) // 2 :])


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson", "a", "a.txt", "a.parquet"])
@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, zstd, lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])]
)
def test_json_lines_whatever_the_name(tmp_path: Path, name: str, pack: Any) -> None:
    (tmp_path / name).write_bytes(pack(lines(CHATS)))
    assert read(tmp_path / name) == (list(enumerate(CHATS, start=1)), [])


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(CHATS),
        json.dumps(CHATS) + "\n",
        json.dumps(CHATS, indent=2),
        json.dumps(CHATS, indent=0),
        "[" + ",\n".join(map(json.dumps, CHATS)) + "]",
        "[\n" + "\n,\n".join(map(json.dumps, CHATS)) + "\n]\n",
        "\ufeff" + json.dumps(CHATS, indent="\t"),
        "\n".join(json.dumps(one, indent=2) for one in CHATS),
        " ".join(json.dumps(one, indent=2) for one in CHATS),
        json.dumps(CHATS, indent=2).replace("\n", "\r\n"),
    ],
)
def test_documents(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode())
    assert read(tmp_path / "a.json") == (list(enumerate(CHATS, start=1)), [])


def test_lines_are_counted_with_blank_ones_and_the_mark_at_the_front(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"a": 1}\r\n\r\n{"a": 2}\n  \nnot json\n{"a": 3}')
    assert read(tmp_path / "a.jsonl") == ([(1, {"a": 1}), (3, {"a": 2}), (6, {"a": 3})], [(5, "invalid_json")])


@pytest.mark.parametrize(
    "first", [b'{"conversation": [{"role": "us', b'["cut', b'[{"role": "user", "cont', b"{", b'{"a": [1,']
)
def test_a_broken_first_line_costs_only_itself(tmp_path: Path, first: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(first + b"\n" + lines(CHATS))
    rows, refused = read(tmp_path / "a.jsonl")
    assert (rows, refused) == (list(enumerate(CHATS, start=2)), [(1, "invalid_json")])


def test_what_is_wrong_in_a_document_is_told_by_element(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[\n{"a": 1},\n7,\n{"a" 2},\n{"s": "}]{[\\""},\n{"a": 4}, {"cut": [')
    assert read(tmp_path / "a.json") == (
        [(1, {"a": 1}), (2, 7), (4, {"s": '}]{["'}), (5, {"a": 4})],
        [(3, "invalid_json"), (6, "invalid_json")],
    )


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("size", [1 << 20, 100])
@pytest.mark.parametrize("wrong", ['{"id": "cut", "messages": [{"role": "us', '{"id": "open, "x": [[{', '{"id": {'])
def test_a_broken_element_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, size: int, wrong: str
) -> None:
    margin = "\n" + " " * (indent or 0)
    pieces = [json.dumps(one, indent=indent).replace("\n", margin) for one in CHATS]
    pieces[2] = wrong if indent is None else pieces[2][:-20]
    (tmp_path / "a.json").write_text("[" + margin + f",{margin}".join(pieces) + "\n]")
    monkeypatch.setattr(streams, "CHUNK", size)
    good = [(place, one) for place, one in enumerate(CHATS, start=1) if place != 3]
    assert read(tmp_path / "a.json") == (good, [(3, "invalid_json")])


def test_a_bracket_too_many_costs_no_good_element(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        "[\n" + ",\n".join([json.dumps(CHATS[0]), '{"id": 3]]}', json.dumps(CHATS[1])]) + "\n]"
    )
    rows, refused = read(tmp_path / "a.json")
    assert [one for _, one in rows] == CHATS[:2]
    assert {reason for _, reason in refused} == {"invalid_json"}


def test_an_object_at_the_head_of_a_line_may_stand_within_another(tmp_path: Path) -> None:
    text = '[{"id": 1, "messages": [\n{"role": "user", "content": "a"},\n{"role": "assistant", "content": "b"}\n]},\n'
    (tmp_path / "a.json").write_text(text + '{"id": 2, "messages": [\n{"role": "user", "content": "c"}]}]')
    rows, refused = read(tmp_path / "a.json")
    assert [(line, row["id"], len(row["messages"])) for line, row in rows] == [(1, 1, 2), (2, 2, 1)]
    assert refused == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('a"\\{}[], \n', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k"\\{[', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.dictionaries(st.text(max_size=3), json_values, max_size=3)),
    st.integers(1, 40),
    st.none() | st.integers(0, 2),
)
def test_a_document_is_cut_alike_wherever_its_chunks_end(rows: list[Any], size: int, indent: int | None) -> None:
    text = json.dumps(rows, indent=indent).encode()
    pieces = (text[at : at + size] for at in range(0, len(text), size))
    assert [json.loads(element) for _, element in documents.elements(pieces)] == rows


@given(st.binary(max_size=60), st.integers(1, 7))
def test_no_byte_of_a_broken_document_is_lost(data: bytes, size: int) -> None:
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    told = b"".join(element for _, element in documents.elements(pieces))
    kept = bytes(b for b in data if b not in b"[], \t\r\n\x0b\x0c")
    assert bytes(b for b in told if b not in b"[], \t\r\n\x0b\x0c") == kept


@pytest.mark.parametrize("pack", [gzip.compress, two_frames])
@pytest.mark.parametrize("document", [False, True])
@pytest.mark.parametrize("size", [40, 4000])
def test_what_a_stream_holds_before_it_breaks_is_kept(tmp_path: Path, pack: Any, document: bool, size: int) -> None:
    noise = [chat(number, noise=os.urandom(200).hex()) for number in range(size)]
    text = json.dumps(noise).encode() if document else lines(noise)
    whole = pack(text)
    (tmp_path / "a.jsonl").write_bytes(whole[: len(whole) // 2] if size > 40 else whole[:-6])
    rows, refused = read(tmp_path / "a.jsonl")
    assert len(rows) > size / 3
    assert rows == list(enumerate(noise[: len(rows)], start=1))
    assert refused == [(len(rows) + 1, "broken_stream")]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.jsonl", b"", "empty_file"),
        ("blank.jsonl", b" \n\n ", "empty_file"),
        ("nothing.json", b"[]", "empty_file"),
        ("nothing.jsonl.gz", gzip.compress(b""), "empty_file"),
        ("picture.png", PNG, "unknown_format"),
        ("picture.jsonl", PNG, "unknown_format"),
        ("picture.jsonl.gz", gzip.compress(PNG), "unknown_format"),
        ("noise.jsonl", bytes(range(256)), "unknown_format"),
        ("table.csv", b"a,b\n1,2\n", "unknown_format"),
        ("notes", b"This is no log.\n", "unknown_format"),
        ("wide.jsonl", json.dumps(CHATS[0]).encode("utf-16"), "unknown_format"),
        ("plain.jsonl.gz", lines(CHATS), "broken_stream"),
        ("noise.zst", b"\x28\xb5\x2f\xfdnoise" * 9, "broken_stream"),
        ("short.zst", b"\x28\xb5\x2f\xfd", "broken_stream"),
        ("noise.gz", b"\x1f\x8bnoise", "broken_stream"),
        ("noise.parquet", b"PAR1noise", "broken_stream"),
    ],
)
def test_a_file_without_records_is_one_entry(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path / name) == ([], [(0, reason)])


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    result = ingest(Logs(paths=(str(tmp_path),)), seed=0)
    assert [(Path(q.file).name, q.line, q.reason) for q in result.quarantined] == [
        ("dangling", 0, "unreadable_file"),
        ("pipe", 0, "unreadable_file"),
    ]
    assert result.read == 0


def test_parquet_reads_the_columns_asked_for_and_cuts_nanoseconds(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["a", "b"],
            "messages": [CHATS[0]["messages"], CHATS[1]["messages"]],
            "timestamp": pa.array([1_700_000_000_000_000_001, None], pa.timestamp("ns", "Europe/Rome")),
            "large": ["x", "y"],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    result = ingest(Logs(paths=(str(tmp_path / "a.parquet"),)), seed=0)
    assert sorted((one.conversation_id, one.started_at) for one in result.conversations) == [
        ("a", "2023-11-14T22:13:20Z"),
        ("b", None),
    ]
    rows = [item.data for item in file_rows(tmp_path / "a.parquet", lambda present: ["id"]) if isinstance(item, Row)]
    assert rows == [{"id": "a"}, {"id": "b"}]


def test_a_parquet_row_with_invalid_utf8_costs_only_itself(tmp_path: Path) -> None:
    binary = pa.array([b"good", b"\xff\xfe", b"fine"])
    text = pa.Array.from_buffers(pa.string(), 3, binary.buffers())
    pq.write_table(pa.table({"id": text}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ([(1, {"id": "good"}), (3, {"id": "fine"})], [(2, "invalid_utf8")])


def test_a_damaged_row_group_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": [f"{n:05}" for n in range(300)]}), path, row_group_size=100, compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    rows, refused = read(path)
    assert [line for line, _ in rows] == [*range(1, 101), *range(201, 301)]
    assert refused == [(101, "broken_stream")]


def test_paths_are_files_folders_and_globs_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl", "deep/.hidden", ".git/d.jsonl", "e[1].jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)

    def found(*paths: str) -> list[str]:
        return [os.path.relpath(path, tmp_path) for path in files.expand(paths)[0]]

    everything = ["a.jsonl", "b.jsonl", "deep/c.jsonl", "e[1].jsonl"]
    assert found(str(tmp_path)) == everything
    assert found(".", "a.jsonl", str(tmp_path / "b.jsonl")) == everything
    assert found("b.jsonl", "a.jsonl") == found("[ab].jsonl") == ["a.jsonl", "b.jsonl"]
    assert found("**/*.jsonl") == everything
    assert found("e[1].jsonl") == ["e[1].jsonl"]
    local, hubs = files.expand(("hub:b/c:test", "hub:a/b", "a.jsonl"))
    assert ([*map(str, local)], [*map(str, hubs)]) == (["a.jsonl"], ["hub:a/b:train", "hub:b/c:test"])


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, message in [
        (str(tmp_path / "no.jsonl"), "there is no .*no.jsonl"),
        (str(tmp_path / "*.gz"), "no file matches"),
        (str(tmp_path / "empty"), "holds no files"),
        ("hub:dataset", "hub:owner/dataset"),
    ]:
        with pytest.raises(UsageError, match=message):
            ingest(Logs(paths=(path,)), seed=0)


def test_the_result_depends_on_content_not_on_files(tmp_path: Path) -> None:
    writer = Writer(7)
    rows = [writer.wildchat() for _ in range(200)]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "all.jsonl").write_bytes(lines(rows))
    pq.write_table(pa.Table.from_pylist(rows[150:]), tmp_path / "two" / "a.parquet")
    (tmp_path / "two" / "b.json").write_text(json.dumps(rows[149::-1]))
    (tmp_path / "two" / "c.jsonl").write_bytes(lines(rows[40:60]))
    one, two = (
        ingest(Logs(paths=(str(tmp_path / name),), min_conversations=1), seed=5).conversations
        for name in ("one", "two")
    )
    assert [each.model_dump(exclude={"source"}) for each in one] == [
        each.model_dump(exclude={"source"}) for each in two
    ]
    assert len(one) == 200


class FakeHub:
    """A hub that gives three rows and then, if told so, falls silent."""

    def __init__(self, falls_silent: bool) -> None:
        self.falls_silent = falls_silent

    def load_dataset(self, name: str, split: str, streaming: bool) -> Iterator[dict[str, Any]]:
        assert (name, split, streaming) == ("owner/chats", "test", True)
        return self._rows()

    def _rows(self) -> Iterator[dict[str, Any]]:
        yield from CHATS[:3]
        if self.falls_silent:
            raise ConnectionError("gone")


def test_a_hub_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "importlib", FakeImports(FakeHub(falls_silent=False)))
    result = ingest(Logs(paths=("hub:owner/chats:test",)), seed=0)
    assert sorted(one.source for one in result.conversations) == [f"hub:owner/chats:test:{n}" for n in (1, 2, 3)]
    monkeypatch.setattr(files, "importlib", FakeImports(FakeHub(falls_silent=True)))
    with pytest.raises(StageError, match=r"after 3 rows .*gone.* run it again"):
        ingest(Logs(paths=("hub:owner/chats:test",)), seed=0)
    monkeypatch.setattr(files, "importlib", FakeImports(None))
    with pytest.raises(UsageError, match="needs the extra `hub`"):
        ingest(Logs(paths=("hub:owner/chats:test",)), seed=0)


class FakeImports:
    """Stands for `importlib`: the module `datasets` is what it was given, or missing."""

    def __init__(self, module: FakeHub | None) -> None:
        self.module = module

    def import_module(self, name: str) -> FakeHub:
        if self.module is None:
            raise ModuleNotFoundError(name)
        return self.module


def test_no_hub_is_wrong_usage() -> None:
    pytest.importorskip("datasets")
    with pytest.raises(UsageError, match="cannot get hub:rlhi-nobody/nothing:train"):
        ingest(Logs(paths=("hub:rlhi-nobody/nothing",)), seed=0)


def test_chunks_never_depend_on_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(zstd(lines(CHATS)))
    monkeypatch.setattr(streams, "CHUNK", 7)
    assert read(tmp_path / "a.jsonl.zst") == (list(enumerate(CHATS, start=1)), [])
