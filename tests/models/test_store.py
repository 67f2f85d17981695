from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rlhi.errors import RlhiError
from rlhi.models.base import ChatRequest, Sampling, ScoreAnswer, ScoreRequest, Usage
from rlhi.models.store import Store, StoreError, key_of
from rlhi.records import ChatMessage

from .scripted import completion


def request(number: int = 0) -> ChatRequest:
    return ChatRequest(model="m", messages=(ChatMessage(role="user", content=f"question {number}"),))


def test_answers_of_both_kinds_are_found_again_by_a_new_process(tmp_path: Path) -> None:
    score = ScoreRequest(model="m", messages=request().messages, replies=("a", "b"))
    values = ScoreAnswer(log_likelihoods=(-1.25, -1e-300), tokens=(1, 2), usage=Usage(prompt_tokens=3))
    store = Store(tmp_path / "new folder" / "s.sqlite")
    store.put(request(), completion("héllo 😀", "two"))
    store.put(score, values)
    again = Store(store.path)
    assert again.get(request()) == completion("héllo 😀", "two")
    assert again.get(score) == values
    assert again.get(request(1)) is None
    assert again.count() == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"messages": (ChatMessage(role="system", content="question 0"),)},
        {"sampling": Sampling(temperature=0.5)},
        {"sampling": Sampling(top_p=0.5)},
        {"sampling": Sampling(max_tokens=1)},
        {"sampling": Sampling(seed=1)},
        {"n": 2},
        {"sample": 1},
        {"json_schema": {"type": "object"}},
    ],
)
def test_whatever_changes_an_answer_changes_the_key(changes: dict[str, object]) -> None:
    other = request().model_copy(update=changes)
    assert key_of(other) != key_of(request())
    assert len(key_of(other)) == 16


def test_a_score_request_is_no_chat_request() -> None:
    chat = ChatRequest(model="m", messages=())
    score = ScoreRequest.model_construct(**{name: getattr(chat, name) for name in type(chat).model_fields})
    assert key_of(score) != key_of(chat)


@pytest.mark.parametrize(
    "damage",
    [
        "body = substr(body, 1, length(body) - 3)",
        "body = zeroblob(length(body))",
        "body = x''",
        "body = 'text'",
        "checksum = checksum + 1",
    ],
)
def test_a_damaged_row_is_absent_and_written_anew(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.put(request(0), completion("kept"))
    store.put(request(1), completion("damaged"))
    with sqlite3.connect(store.path) as db:
        db.execute(f"UPDATE answers SET {damage} WHERE key = ?", (key_of(request(1)),))
    assert store.get(request(1)) is None
    assert store.get(request(0)) == completion("kept")
    store.put(request(1), completion("new"))
    assert store.get(request(1)) == completion("new")
    assert store.count() == 2


WRITER = """
import sys
from rlhi.models.base import ChatRequest, Choice, Completion, Usage
from rlhi.models.store import Store
from rlhi.records import ChatMessage
store = Store(sys.argv[1])
for number in range(10**9):
    text = f"answer {number} " * 50
    request = ChatRequest(model="m", messages=(ChatMessage(role="user", content=f"question {number}"),))
    store.put(request, Completion(choices=(Choice(text=text, finish="stop"),), usage=Usage()))
    print(number, flush=True)
"""


def test_kill_9_loses_nothing_that_was_put(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        lines = [next(writer.stdout) for _ in range(40)]
        time.sleep(0.01)
        writer.kill()
        lines += writer.stdout.read().splitlines()
        writer.wait()
        store = Store(path)
        said = [int(line) for line in lines if line.strip()]
        assert said == list(range(len(said)))
        for number in said[:-1]:  # the last line itself may be torn
            found = store.get(request(number))
            assert found is not None
            assert found.text == f"answer {number} " * 50
        store.close()


def test_threads_share_a_store_and_processes_share_a_file(tmp_path: Path) -> None:
    stores = [Store(tmp_path / "s.sqlite") for _ in range(2)]
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for number in range(50):
                stores[worker % 2].put(request(worker * 100 + number), completion(f"{worker} {number}"))
                assert stores[(worker + 1) % 2].get(request(worker * 100 + number)) is not None
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert stores[0].count() == 200


def test_a_new_file_may_be_opened_by_several_processes_at_once(tmp_path: Path) -> None:
    code = "import sys, time\nfrom rlhi.models.store import Store\nwhile time.time() < float(sys.argv[1]): pass\n"
    code += "for folder in range(40): Store(f'{sys.argv[2]}/{folder}/store.sqlite').close()"
    start = [sys.executable, "-c", code, str(time.time() + 1.0), str(tmp_path)]
    opened = [subprocess.Popen(start, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[1] for process in opened] == [""] * 4


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.put(request(0), completion("kept"))
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    noise = "".join(chr(0x4E00 + (i * i * 7919) % 20000) for i in range(60_000))
    with pytest.raises(RlhiError, match=r"s\.sqlite failed: .*full; free space"):
        store.put(request(1), completion(noise))
    assert store.get(request(0)) == completion("kept")


def test_a_file_that_is_no_store_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    with pytest.raises(StoreError, match="move the file away"):
        Store(tmp_path / "s.sqlite")


def test_looking_up_takes_far_less_than_a_millisecond_among_many(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.put(request(0), completion("here"))
    rows = ((number.to_bytes(16, "big"), 0, b"x" * 40) for number in range(200_000))
    with sqlite3.connect(store.path) as db:
        db.executemany("INSERT INTO answers VALUES (?, ?, ?)", rows)
    wanted = request(0)
    began = time.perf_counter()
    for _ in range(200):
        assert store.get(wanted) is not None
    assert (time.perf_counter() - began) / 200 < 1e-3
