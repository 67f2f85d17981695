"""Train the embedded model from scratch: `python scripts/train_embedded.py [--out FOLDER] [--threads N]`.

Stopped and started again, it goes on from `FOLDER/checkpoint`. At the end, `FOLDER` is what `rlhi.world.EMBEDDED_PATH`
holds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rlhi.world.pretraining import Plan, train


def main() -> None:
    """Parse the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/embedded"), help="folder for model and checkpoint")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    train(Plan(), options.out, lambda line: print(line, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
