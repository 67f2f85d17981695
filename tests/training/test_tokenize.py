from __future__ import annotations

from pathlib import Path

import pytest

from rlhi.records import Dropped
from rlhi.training.policy import load_tokenizer
from rlhi.training.tokenize import Encoded, encode, encode_all
from tests.training.sample import BOTH, make_pair, make_pairs

ASK = [("system", "The user likes short answers."), ("user", "what is 2 + 2?")]


def dropped(result: Encoded | Dropped) -> tuple[str, str]:
    assert isinstance(result, Dropped)
    return result.reason, result.detail


def test_prompt_and_reply_read_as_the_template_writes_them(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    pair = encode(make_pair(ASK, "four", "five"), tokenizer)
    assert isinstance(pair, Encoded)
    assert tokenizer.decode(pair.prompt) == (
        "<|im_start|>system\nThe user likes short answers.<|im_end|>\n"
        "<|im_start|>user\nwhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(pair.chosen) == "four<|im_end|>\n"
    assert tokenizer.decode(pair.rejected) == "five<|im_end|>\n"


def test_a_template_that_writes_the_prompt_otherwise_is_a_drop(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
    )
    reason, detail = dropped(encode(make_pair(ASK, "four", "five"), tokenizer))
    assert reason == "prompt_not_prefix"
    assert "<think>" in detail
    assert "four" in detail


def test_tokens_that_merge_across_the_border_are_a_drop(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    merged = tokenizer("please")["input_ids"]
    cut = next(i for i in range(1, 6) if tokenizer("please"[:i])["input_ids"] != merged[: len(merged[:i])])
    opening = "{% if add_generation_prompt %}" + "please"[:cut] + "{% endif %}"
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}" + opening
    pair = make_pair([("user", "hm ")], "please", "please"[:cut] + " no")
    assert dropped(encode(pair, tokenizer))[0] == "prompt_not_prefix"


def test_a_template_that_refuses_is_a_drop(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    tokenizer.chat_template = "{{ raise_exception('no system message, please') }}"
    reason, detail = dropped(encode(make_pair(ASK, "four", "five"), tokenizer))
    assert reason == "template"
    assert "no system message, please" in detail


def test_too_long_counts_the_longer_used_side_only(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    pair = make_pair(ASK, "four", "the sum is five, because two and two are five")
    whole = encode(pair, tokenizer)
    assert isinstance(whole, Encoded)
    longest = len(whole.prompt) + len(whole.rejected)
    assert isinstance(encode(pair, tokenizer, BOTH, longest), Encoded)
    reason, detail = dropped(encode(pair, tokenizer, BOTH, longest - 1))
    assert (reason, detail) == ("too_long", f"{longest} tokens, max_length is {longest - 1}")
    assert isinstance(encode(pair, tokenizer, ("chosen",), longest - 1), Encoded)


def test_equal_replies_are_dropped_where_two_are_compared(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    pair = make_pair(ASK, "four", "four")
    assert dropped(encode(pair, tokenizer))[0] == "equal_replies"
    assert isinstance(encode(pair, tokenizer, ("chosen",)), Encoded)


def test_all_are_accounted_for_in_any_order(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    pairs = [*make_pairs(6), make_pair(ASK, "four", "four"), make_pairs(6)[2]]
    kept, lost = encode_all(pairs, tokenizer, BOTH, 4096)
    assert len(kept) + len(lost) == len(pairs)
    assert sorted(row.reason for row in lost) == ["duplicate", "equal_replies"]
    assert {row.row for row in lost} <= {pair.key for pair in pairs}
    assert encode_all(pairs[::-1], tokenizer, BOTH, 4096) == (kept, lost)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_weight_and_user_are_carried(tiny: Path, weight: float) -> None:
    pair = encode(make_pair(ASK, "four", "five", user="ann", weight=weight), load_tokenizer(str(tiny)))
    assert isinstance(pair, Encoded)
    assert (pair.user_id, pair.weight) == ("ann", weight)


def test_a_pair_that_is_too_long_loses_its_oldest_turns(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    history = [message for i in range(4) for message in (("user", f"ask {i} please"), ("assistant", f"plan {i}"))]
    prompt = [("system", "short answers"), *history, ("user", "and now?")]
    pair = make_pair(prompt, "four", "five five five")
    whole = encode(pair, tokenizer)
    assert isinstance(whole, Encoded)
    longest = whole.length(BOTH)
    assert (whole.cut, encode(pair, tokenizer, BOTH, longest, truncate=True)) == (0, whole)
    assert dropped(encode(pair, tokenizer, BOTH, longest - 1))[0] == "too_long"
    for limit, cut in ((longest - 1, 2), (longest // 2, 6)):
        found = encode(pair, tokenizer, BOTH, limit, truncate=True)
        assert isinstance(found, Encoded)
        assert found.length(BOTH) <= limit
        assert found.cut == cut
        alone = encode(make_pair([prompt[0], *prompt[1 + cut :]], "four", "five five five"), tokenizer)
        assert isinstance(alone, Encoded)
        assert (found.prompt, found.rejected) == (alone.prompt, alone.rejected)
    assert dropped(encode(pair, tokenizer, BOTH, 20, truncate=True))[0] == "too_long"
