"""Whatever stands in a log, each record ends in the data or in quarantine."""

from __future__ import annotations

import gc
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rlhi.logs import Ingested, ingest
from rlhi.recipe import Logs
from rlhi.records import Conversation, Quarantined

text = st.text(st.characters(exclude_categories=()), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=6
)
times = st.one_of(anything, st.integers(0, 2 * 10**18), st.datetimes().map(str))


def fields(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object that may lack any of its fields, or have anything in it."""
    return st.fixed_dictionaries({}, optional={name: value | anything for name, value in known.items()})


parts = st.lists(fields(type=st.sampled_from(["text", "image_url", "refusal"]), text=text, refusal=text), max_size=3)
message = fields(
    role=st.sampled_from(["user", "assistant", "system", "tool"]),
    content=text | parts,
    value=text,
    timestamp=times,
    toxic=st.booleans(),
    hashed_ip=text,
    **{"from": st.sampled_from(["human", "gpt"])},
)
row = fields(
    conversation=st.lists(message, max_size=5),
    messages=st.lists(message, max_size=5),
    conversations=st.lists(message, max_size=5),
    conversation_hash=text,
    id=st.integers(),
    hashed_ip=text,
    user=text,
    metadata=fields(user_id=text),
    timestamp=times,
    created=times,
    language=text,
    model=text,
    toxic=st.booleans(),
    openai_moderation=st.lists(fields(flagged=st.booleans())),
    system=text,
)


keys = st.sampled_from(["a", "b", "c", "d"])
chatgpt_message = fields(
    author=fields(role=st.sampled_from(["user", "assistant", "system", "tool"])),
    content=fields(
        content_type=st.sampled_from(["text", "multimodal_text", "thoughts", "user_editable_context"]),
        parts=st.lists(text | fields(text=text), max_size=2),
        text=text,
        user_profile=text,
    ),
    metadata=fields(is_visually_hidden_from_conversation=st.booleans(), model_slug=text, attachments=st.lists(text)),
    recipient=st.sampled_from(["all", "python"]),
    weight=st.sampled_from([0.0, 1.0]),
    create_time=times,
)
webui_message = fields(
    parentId=st.none() | keys,
    role=st.sampled_from(["user", "assistant"]),
    content=text | parts,
    timestamp=times,
    model=text,
    files=st.lists(text),
)
history = fields(messages=st.dictionaries(keys, webui_message, max_size=4), currentId=keys)
tree_row = st.one_of(
    fields(
        mapping=st.dictionaries(keys, fields(message=chatgpt_message, parent=st.none() | keys), max_size=4),
        current_node=keys,
        create_time=times,
        id=text,
        default_model_slug=text,
    ),
    fields(
        chat=fields(history=history, messages=st.lists(message, max_size=3), models=st.lists(text), title=text),
        user_id=text,
        created_at=times,
        id=text,
    ),
    fields(history=history, id=text, models=st.lists(text)),
)


def _ingest(data: bytes, name: str = "log.jsonl", **settings: Any) -> Ingested:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        result = ingest(Logs(paths=(folder,), keep_toxic=True, **settings), seed=0)
    assert result.read == len(result.conversations) + sum(q.line > 0 for q in result.quarantined)
    assert sum(result.reasons.values()) == len(result.quarantined)
    assert gc.isenabled()
    assert "reader_error" not in result.reasons
    for one in result.conversations:
        Conversation.model_validate_json(one.model_dump_json())
    for refused in result.quarantined:
        Quarantined.model_validate_json(refused.model_dump_json())
    return result


@settings(max_examples=150, deadline=None)
@given(st.lists(row | anything, min_size=1, max_size=4))
def test_any_json(rows: list[Any]) -> None:
    result = _ingest(b"".join(json.dumps(one).encode() + b"\n" for one in rows))
    if any(isinstance(one, dict) for one in rows):
        assert result.read == len(rows)


@settings(max_examples=300, deadline=None)
@given(st.lists(tree_row, min_size=1, max_size=4))
def test_any_tree(rows: list[dict[str, Any]]) -> None:
    result = _ingest(b"".join(json.dumps(one).encode() + b"\n" for one in rows))
    places = [int(one.source.rpartition(":")[2]) for one in result.conversations] + [q.line for q in result.quarantined]
    assert set(places) == set(range(1, len(rows) + 1))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_bytes(rows: list[bytes]) -> None:
    data = b"\n".join(rows)
    result = _ingest(data)
    places = [int(one.source.rpartition(":")[2]) for one in result.conversations] + [q.line for q in result.quarantined]
    assert all(0 <= place <= data.count(b"\n") + 1 for place in places)


def test_what_parsers_choke_on() -> None:
    hard = [
        b'{"conversation": ' + b"[" * 100_000,
        b'{"messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"messages": [{"role": "user", "content": "a"}], "timestamp": 1' + b"0" * 4000 + b"}",
        b'{"messages": [{"role": "user", "content": "a"}], "id": 1' + b"0" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "a"}], "timestamp": NaN}',
        b'{"messages": [{"role": "user", "content": "\\ud83d\\ude00"}]}',
        b'{"messages": [{"role": "user", "content": "\\ud83d"}]}',
        b'{"messages": [{"role": "user", "content": "a\x00b"}]}',
        b'{"messages": [{"role": "user", "content": "' + b"\xf0\x9f\x98" + b'"}]}',
    ]
    result = _ingest(b"\n".join(hard))
    reasons = {q.line: q.reason for q in result.quarantined}
    assert reasons == {
        1: "invalid_json",
        2: "invalid_json",
        3: "invalid_time",
        4: "invalid_json",
        5: "invalid_time",
        7: "invalid_text",
        8: "invalid_text",
        9: "invalid_utf8",
    }
    assert [one.messages[0].content for one in result.conversations] == ["😀"]
