"""`python -m rlhi`."""

from __future__ import annotations

from rlhi.cli import main

if __name__ == "__main__":
    main()
