"""What shrinking is given: other models' masks, wrong examples, models that cannot be followed, unusual calls."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch
from shrink_nets import masked_by_hand, random_mask, same
from torch import Tensor, nn

import tombola
from tombola import Mask, TombolaError, shrink
from tombola.shrinking import Shrunk, structured


def net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 3))


X = torch.linspace(-1, 1, 8).view(2, 4)


class Calls(nn.Module):
    """`net`, called in some other way."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        self.net = net()
        self.attributes = attributes


class Branching(Calls):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if x.sum() > 0 else -self.net(x)


class Noisy(Calls):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.net(x))


class Named(Calls):
    def forward(self, x: Tensor, *, scale: Tensor, names: list[str]) -> dict[str, Any]:
        hidden = self.net[:3](x)
        return {
            "logits": [self.net[3:](hidden) * scale],
            "names": names,
            "result": types.SimpleNamespace(hidden=hidden),
        }


class Silent(Calls):
    def forward(self, x: Tensor) -> None:
        self.net(x)


class Uncopied(Calls):
    def __deepcopy__(self, memo: object) -> None:
        raise TypeError("cannot pickle a lock")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def sparse(model: nn.Module, density: float = 0.1) -> Mask:
    return random_mask(model, density, 0)


def test_shrink_is_public() -> None:
    assert tombola.shrink is shrink


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Mask({"head.weight": torch.ones(3, 4) > 0}), "The mask names 'head.weight', which the model does not have"),
        (Mask({"0.weight": torch.ones(4, 40) > 0}), r"The mask of '0.weight' has shape \(4, 40\), but the weight has"),
    ],
    ids=["names", "shapes"],
)
def test_the_mask_of_another_model(mask: Mask, message: str) -> None:
    with pytest.raises(TombolaError, match=message):
        shrink(net(), mask, X)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.ones(2, 5), r"Sequential does not take the example \(\[\(2, 5\)\]\): mat1 and mat2 shapes cannot"),
        ((X, X), "Sequential does not take the example"),
        ({"x": X}, "Sequential does not take the example"),
        (3, "The example is a int; expected what the model is called with"),
        ("x", "The example is a str"),
        ((), "The example holds no tensor"),
        ([None], "The example holds no tensor"),
        (torch.ones(2, 4, device="meta"), "A tensor of the example is on the meta device"),
        (torch.ones(0, 4), r"A tensor of the example has shape \(0, 4\) and has no values"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_an_example_that_does_not_fit(example: Any, message: str) -> None:
    with pytest.raises(TombolaError, match=message):
        shrink(net(), sparse(net()), example)


def test_models_without_values() -> None:
    with torch.device("meta"):
        empty = net()
    with pytest.raises(TombolaError, match=r"'0.weight' is on the meta device and has no values"):
        shrink(empty, sparse(net()), X)
    lazy = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(TombolaError, match="is lazy and has no shape yet; run one batch"):
        shrink(lazy, sparse(net()), X)


def test_arguments_that_are_none() -> None:
    with pytest.raises(TombolaError, match="inputs='all'; expected 'keep' or 'gather'"):
        shrink(net(), sparse(net()), X, inputs="all")  # type: ignore[arg-type]
    with pytest.raises(TombolaError, match=r"The model is a function; expected a torch\.nn\.Module"):
        shrink(net, sparse(net()), X)  # type: ignore[arg-type]
    with pytest.raises(TombolaError, match=r"Uncopied cannot be copied \(cannot pickle a lock\)"):
        shrink(Uncopied(), sparse(Uncopied()), X)
    with pytest.raises(TombolaError, match="Silent returns no tensor for the example"):
        shrink(Silent(), sparse(Silent()), X)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Branching(), "torch.export cannot follow it ("),
        (Noisy(), "the model gives other outputs each time in eval mode (outputs differ by"),
    ],
    ids=["branching", "noisy"],
)
def test_what_cannot_be_followed_comes_back_whole_and_named(model: nn.Module, why: str) -> None:
    mask = sparse(model)
    small = shrink(model, mask, X)
    assert small.fallback.startswith(why)
    assert small.whole == dict.fromkeys(mask, small.fallback)
    assert (small.kept, small.gone, small.after, small.share) == ({}, {}, small.before, 1.0)
    now, expected = small.model.state_dict(), masked_by_hand(model, mask).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in now.items())
    assert "Not all was cut: " in str(small)
    with pytest.raises(TombolaError, match="was not shrunk as far as its mask allows"):
        shrink(model, mask, X, strict=True)


def test_a_model_in_training_mode_is_shrunk_for_eval_mode_and_stays_in_its_own() -> None:
    model = nn.Sequential(net(), nn.Dropout(0.9), nn.BatchNorm1d(3))
    assert model.training
    mask = sparse(model)
    small = shrink(model, mask, X, strict=True)
    assert model.training and not any(module.training for module in small.model.modules())
    assert model[2].num_batches_tracked == 0
    assert small.after < small.before
    assert same(masked_by_hand(model, mask), small.model, X)


def test_no_random_number_is_used_up() -> None:
    before = torch.random.get_rng_state()
    shrink(net(), sparse(net()), X)
    shrink(Noisy(), sparse(Noisy()), X)
    assert torch.equal(before, torch.random.get_rng_state())


def test_arguments_by_name_and_results_in_containers() -> None:
    model = Named()
    mask = sparse(model)
    arguments = {"x": X, "scale": torch.tensor(2.0), "names": ["a"]}
    small = shrink(model, mask, arguments, strict=True)
    assert small.gone["net.0.weight"] and "net.2.weight" not in small.gone  # `hidden` is given back too
    one, two = masked_by_hand(model, mask)(**arguments), small.model(**arguments)
    assert torch.allclose(one["logits"][0], two["logits"][0], atol=1e-6)
    assert torch.allclose(one["result"].hidden, two["result"].hidden, atol=1e-6)


def test_within_wrappers() -> None:
    inner = net()
    mask = sparse(inner)
    plain = shrink(inner, mask, X)
    for wrapped in (torch.compile(inner, backend="eager"), nn.DataParallel(inner)):
        small = shrink(wrapped, mask, X, strict=True)  # type: ignore[arg-type]
        assert type(small.model) is nn.Sequential and small.after == plain.after


def test_a_first_layer_that_is_not_called_as_a_module_gathers_nothing() -> None:
    class Functional(Calls):
        def forward(self, x: Tensor) -> Tensor:
            return self.net[1:](nn.functional.linear(x, self.net[0].weight, self.net[0].bias))

    model = Functional()
    mask = Mask({**dict(sparse(model)), "net.0.weight": torch.tensor([True, True, False, True]).expand(40, 4)})
    small = shrink(model, mask, X, inputs="gather")
    assert small.fallback.startswith("the inputs are not gathered, for otherwise: 'Sequential' object has no attribute")
    assert small.after == shrink(model, mask, X, strict=True).after < small.before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    model = net().to(dtype)
    small = shrink(model, sparse(model), X.to(dtype), strict=True)
    assert small.after < small.before and next(small.model.parameters()).dtype == dtype


def test_frozen_weights_stay_frozen() -> None:
    model = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 3, bias=False)).requires_grad_(False)
    model[0].requires_grad_(True)
    small = shrink(model, sparse(model, 0.15), X, strict=True)
    wanted = {name: parameter.requires_grad for name, parameter in small.model.named_parameters()}
    assert wanted == {"0.weight": True, "0.bias": True, "2.weight": False, "2.bias": False}


def test_a_smaller_network_trains_and_is_copied_like_any_other() -> None:
    import copy
    import pickle

    small = shrink(net(), sparse(net()), X, inputs="gather").model
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    before = small(X)
    before.pow(2).sum().backward()
    optimizer.step()
    assert not torch.equal(before, small(X))
    for twin in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert torch.equal(twin(X), small(X))
        twin.load_state_dict(small.state_dict())


def test_a_report_of_nothing() -> None:
    model = net()
    small = shrink(model, Mask.dense(model), X, strict=True)
    assert str(small) == "1,963 of 1,963 parameters are left (100.0 %)."
    assert Shrunk(model=model, kept={}, gone={}, whole={}, fallback="", before=0, after=0).share == 1.0


def test_lossy_removal_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(TombolaError, match=r"pip install 'tombola\[structured\]'"):
        structured(net(), X)
    with pytest.raises(TombolaError, match="ratio=0; expected a number above 0 and below 1"):
        structured(net(), X, 0)


def test_lossy_removal_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Pruner:
        def __init__(self, model: nn.Module, **options: Any) -> None:
            asked.update(options, model=model)

        def step(self) -> None:
            asked["steps"] = asked.get("steps", 0) + 1

    package = types.ModuleType("torch_pruning")
    package.pruner = types.SimpleNamespace(BasePruner=Pruner)  # type: ignore[attr-defined]
    package.importance = types.SimpleNamespace(GroupMagnitudeImportance=lambda p: ("norm", p))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_pruning", package)
    model = net()
    smaller = structured(model, X, 0.25, protect=[model[4]])
    assert smaller is asked["model"] and smaller is not model
    assert asked["ignored_layers"] == [smaller[4]]  # type: ignore[index]
    assert (asked["pruning_ratio"], asked["importance"], asked["global_pruning"]) == (0.25, ("norm", 2), False)
    assert asked["example_inputs"] is X and asked["steps"] == 1
    with pytest.raises(TombolaError, match="protect names a module that is not part of the model"):
        structured(model, X, protect=[nn.Linear(2, 2)])
