"""Gathers replies to be written into batches, and runs batches on worker threads."""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from rlhi.errors import first_line
from rlhi.models.base import ModelError
from rlhi.models.decoding import Row, bucket

Result = TypeVar("Result")

LINGER = 0.005
"""Seconds without a new row after which a batch that is not full is run."""


@dataclass(eq=False)
class _Job:
    rows: Sequence[Row]
    future: Future[Sequence[Row]]

    def begin(self) -> bool:
        """Say that work starts; False where the caller has gone away."""
        return self.future.running() or (not self.future.done() and self.future.set_running_or_notify_cancel())


class Pool:
    """Worker threads that write rows in batches of one bucket, and run whole calls.

    On a CPU each worker computes with one thread. That is what makes a row's numbers independent of its place in the
    batch (PyTorch's threads each work on their own part, with edges that round differently), and several small
    batches side by side are also faster than one on all cores.
    """

    def __init__(
        self, write: Callable[[Sequence[Row], Callable[[], bool]], None], size: int, workers: int, one_thread: bool
    ) -> None:
        self._write, self._size, self._one_thread = write, size, one_thread
        self._changed = threading.Condition()
        self._pending: dict[int, deque[tuple[_Job, Row]]] = {}
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._last_arrival = 0.0
        self._stopped = False
        threads_before = torch.get_num_threads()
        ready = threading.Barrier(workers + 1)
        self._threads = [
            threading.Thread(target=self._work, args=(ready,), name=f"rlhi-model-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()
        ready.wait()
        # A worker's setting is its own, but it is also the default of threads that start later.
        torch.set_num_threads(threads_before)
        # A thread that Python ends inside PyTorch's C++ would take the whole process down.
        atexit.register(self.stop)

    def submit(self, rows: Sequence[Row]) -> Future[Sequence[Row]]:
        """Have `rows` written; the future gives them back when all are done."""
        job = _Job(rows, Future())
        with self._changed:
            for row in rows:
                self._pending.setdefault(bucket(len(row.prompt)), deque()).append((job, row))
            self._last_arrival = time.monotonic()
            self._changed.notify_all()
        return job.future

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """Have `function` called by a worker."""
        future: Future[Result] = Future()
        with self._changed:
            self._calls.append((function, future))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """End the workers; what is still pending fails. Done at exit for whoever forgets it."""
        atexit.unregister(self.stop)
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        waiting = [job.future for queue in self._pending.values() for job, _ in queue]
        for future in [*waiting, *(future for _, future in self._calls)]:
            if not future.done():
                future.set_exception(ModelError("the model was closed before it answered"))

    def _work(self, ready: threading.Barrier) -> None:
        if self._one_thread:
            torch.set_num_threads(1)
        ready.wait()
        while (task := self._next()) is not None:
            task()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._stopped:
                if self._calls:
                    function, future = self._calls.popleft()
                    return lambda: _answer(function, future)
                wait = self._last_arrival + LINGER - time.monotonic()
                fullest = max(self._pending, key=lambda width: len(self._pending[width]), default=None)
                if fullest is not None and (wait <= 0 or len(self._pending[fullest]) >= self._size):
                    taken = self._take(fullest)
                    return lambda: self._run(taken)
                self._changed.wait(None if fullest is None else wait)
        return None

    def _take(self, width: int) -> list[tuple[_Job, Row]]:
        taken: list[tuple[_Job, Row]] = []
        queue = self._pending[width]
        while queue and len(taken) < self._size:
            job, row = queue.popleft()
            if job.begin():
                taken.append((job, row))
        if not queue:
            del self._pending[width]
        return taken

    def _run(self, taken: list[tuple[_Job, Row]]) -> None:
        if not taken:
            return
        try:
            self._write([row for _, row in taken], lambda: self._stopped)
            failure = ModelError("the model was closed before it answered") if self._stopped else None
        except Exception as error:  # any failure belongs to the callers, not to this thread
            failure = _explain(error)
        with self._changed:
            for job in dict.fromkeys(job for job, _ in taken):
                if job.future.done():
                    continue
                if all(row.finish for row in job.rows):
                    job.future.set_result(job.rows)
                elif failure:
                    job.future.set_exception(failure)


def _answer(function: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except Exception as error:  # as above
        future.set_exception(_explain(error))


def _explain(error: Exception) -> ModelError:
    if isinstance(error, ModelError):
        return error
    if isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error):
        failure = ModelError(
            "out of memory; lower this model's `batch_size` in the recipe, under `models`, or under `local` for the "
            f"policy in this process ({first_line(error)})"
        )
    else:
        failure = ModelError(f"the model failed: {type(error).__name__}: {first_line(error)}")
    failure.__cause__ = error
    return failure
