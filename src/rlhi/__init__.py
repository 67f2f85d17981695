"""rlhi: Reinforcement Learning from Human Interaction (arXiv 2509.25137), from logs to an evaluated model.

import rlhi
outcome = rlhi.run("recipes/demo.yaml")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlhi.pipeline.run import Outcome, run
    from rlhi.recipe import Recipe
    from rlhi.recipe import load as load_recipe

__version__ = "0.1.0"
__all__ = ["Outcome", "Recipe", "__version__", "load_recipe", "run"]

_PLACES = {
    "Outcome": ("rlhi.pipeline.run", "Outcome"),
    "run": ("rlhi.pipeline.run", "run"),
    "Recipe": ("rlhi.recipe", "Recipe"),
    "load_recipe": ("rlhi.recipe", "load"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import rlhi` stays light."""
    if name not in _PLACES:
        raise AttributeError(f"module 'rlhi' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
