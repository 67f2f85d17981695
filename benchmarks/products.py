"""Products of float32 matrices on this CPU: PyTorch's usual BLAS, and oneDNN (see `rlhi.models.products`).

python benchmarks/products.py [--json FILE]

Each row is a product [M, K] × [K, N]: layers of a 30M Llama in training, and with 32 rows in decoding.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import common
import torch

from rlhi.models import products

SHAPES = ((3264, 512, 512), (3264, 512, 1536), (3264, 1536, 512), (512, 512, 32_000), (32, 512, 1536))


def main() -> None:
    """Measure all shapes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_options(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for m, k, n in SHAPES[-1:] if options.tiny else SHAPES:
        a, b = torch.randn(m, k), torch.randn(n, k)
        ways: dict[str, Callable[[], object]] = {
            "usual": partial(torch.nn.functional.linear, a, b),
            "onednn": partial(products.by_onednn, a, b, None),
        }
        exact = a.double() @ b.double().t()
        seconds = common.medians(common.timed(ways, options.repeats, "cpu"))
        errors = {name: float((run() - exact).abs().max()) for name, run in ways.items()}  # type: ignore[operator]
        rate = 2e-9 * m * k * n
        rows.append(
            {
                "product": f"{m}×{k}×{n}",
                "usual_gflops": rate / seconds["usual"],
                "onednn_gflops": rate / seconds["onednn"],
                "speedup": seconds["usual"] / seconds["onednn"],
                "usual_error": errors["usual"],
                "onednn_error": errors["onednn"],
            }
        )
    common.write_json(options.json, rows)
    used = "oneDNN" if products.better() else "the usual BLAS"
    common.table("Products, CPU", rows, [f"On this processor rlhi uses {used}."])


if __name__ == "__main__":
    main()
