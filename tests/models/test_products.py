"""Products by oneDNN: the same numbers, gradients and saved weights as `nn.Linear`, on whatever CPU has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rlhi.models import products
from rlhi.models.products import FastLinear, install, linear, product

pytestmark = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this PyTorch has no oneDNN",
)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "better", lambda: True)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=3, max_size=4),
    st.integers(1, 50),
    st.booleans(),
    st.sets(st.sampled_from(["hidden", "weight", "bias"]), min_size=1),
)
def test_values_and_gradients_are_those_of_float64(shape: list[int], out: int, biased: bool, learns: set[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "better", lambda: True)
        given = {"hidden": random(*shape), "weight": random(out, shape[-1], seed=1), "bias": random(out, seed=2)}
        if not biased:
            del given["bias"]
        if not learns & given.keys():
            return
        for name, tensor in given.items():
            tensor.requires_grad_(name in learns)
        wide = {name: t.detach().double().requires_grad_(name in learns) for name, t in given.items()}
        found = linear(given["hidden"], given["weight"], given.get("bias"))
        wanted = nn.functional.linear(wide["hidden"], wide["weight"], wide.get("bias"))
        assert found.shape == wanted.shape
        assert torch.allclose(found.double(), wanted, rtol=1e-5, atol=1e-5)
        assert type(found.grad_fn).__name__ == "_LinearBackward"
        slope = random(*found.shape, seed=3)
        found.backward(slope)
        wanted.backward(slope.double())
        for name, tensor in given.items():
            assert (tensor.grad is None) == (name not in learns)
            exact = wide[name].grad
            if tensor.grad is not None and exact is not None:
                assert float((tensor.grad.double() - exact).norm()) <= 1e-5 * float(exact.norm()) + 1e-6


@pytest.mark.usefixtures("on")
def test_matrices_that_lie_transposed_are_multiplied_as_they_are() -> None:
    a, b = random(7, 30), random(11, 7, seed=1)
    assert torch.allclose(product(a.t(), b.t()), a.t() @ b.t(), atol=1e-5)
    assert product(torch.empty(0, 4), random(4, 3)).shape == (0, 3)


@pytest.mark.usefixtures("on")
def test_a_row_does_not_depend_on_its_company() -> None:
    weight, rows = random(33, 64), random(32, 64, seed=1)
    other = torch.cat([random(31, 64, seed=2), rows[:1]])
    assert torch.equal(linear(rows, weight, None)[0], linear(other, weight, None)[31])


@pytest.mark.usefixtures("on")
def test_other_precisions_go_the_usual_way() -> None:
    wide = random(3, 4).double()
    assert linear(wide, wide, None).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(random(3, 4), random(5, 4), None).dtype == torch.bfloat16


@pytest.mark.usefixtures("on")
def test_a_model_keeps_its_names_and_weights(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from tests.models.tiny import make_tiny_model

    path = make_tiny_model(tmp_path / "tiny", arch="llama")
    model, usual = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval() for _ in range(2))
    install(model)
    assert sum(type(module) is FastLinear for module in model.modules()) > 5
    ids = torch.arange(3, 40)[None]
    assert torch.allclose(model(input_ids=ids).logits, usual(input_ids=ids).logits, atol=1e-5)
    model.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == (path / "model.safetensors").read_bytes()


def test_nothing_changes_where_it_is_not_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "better", lambda: False)
    layer = nn.Sequential(nn.Linear(2, 2))
    install(layer)
    assert type(layer[0]) is nn.Linear
    assert type(linear(random(3, 4), random(5, 4).requires_grad_(), None).grad_fn).__name__ != "_LinearBackward"
