"""Worker threads end before the interpreter does."""

from __future__ import annotations

import subprocess
import sys

LEAVES = """
import time
import torch
from rlhi.models.batching import Pool
from rlhi.models.decoding import Row

def write(rows, stopped):
    table = torch.ones(400, 400)
    while not stopped():
        table = table @ table
        table /= table.norm()

pool = Pool(write, 1, 2, True)
rows = [Row((1, 2), 9, 0.0, 1.0, None) for _ in range(4)]
pool.submit(rows)
time.sleep(0.2)
"""


def test_whoever_leaves_replies_half_written_ends_well() -> None:
    command = [sys.executable, "-c", LEAVES]
    ends = [subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(3)]
    assert [(end.returncode, end.stderr) for end in ends] == [(0, "")] * 3
