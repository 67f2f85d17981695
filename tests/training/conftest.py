from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.tiny import make_tiny_model


@pytest.fixture(scope="module", autouse=True)
def alone(one_thread: None) -> None:
    """Every test of training runs in one thread."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "llama")
