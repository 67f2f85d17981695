"""Measure a policy in the world: `python scripts/probe_embedded.py [--model FOLDER] [--users N] [--temperature T]`."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from rlhi.models.base import Sampling
from rlhi.models.transformers import TransformersModel
from rlhi.settings import Model
from rlhi.world.probe import measure_policy, measure_roles, probes


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Ask the model everything."""
    model = TransformersModel(Model(backend="transformers", model=options.model))
    try:
        asked = probes(options.users, options.seed, options.phrasings)
        began = time.monotonic()
        sampling = Sampling(temperature=options.temperature, top_p=options.top_p, max_tokens=160, seed=options.seed)
        found = await measure_policy(model, asked, sampling)
        rate = len(asked) / (time.monotonic() - began)
        roles = await measure_roles(model, options.roles, options.seed) if options.roles else {}
        return {"replies/s": {"mean": rate, "n": len(asked)}, **found, **roles}
    finally:
        await model.close()


def main() -> None:
    """Parse the arguments, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded", help="name or folder of the model")
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--roles", type=int, default=20, help="tasks of each LLM role")
    parser.add_argument("--phrasings", choices=("train", "test", "all"), default="test")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    for name, figure in asyncio.run(measure(options)).items():
        print(f"{name:<36} {figure['mean']:8.3f}  n={figure['n']}")


if __name__ == "__main__":
    main()
