"""Reference pages are what the code says."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import REPOSITORY


def test_reference_pages_are_up_to_date() -> None:
    script = REPOSITORY / "scripts" / "make_docs.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
