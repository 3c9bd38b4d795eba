"""Effective weights against paths counted by hand, and against derivatives of a network of positive weights."""

from __future__ import annotations

import copy
from itertools import pairwise, product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from shrink_nets import Lambda, network, random_mask
from torch import Tensor, nn

from tombola import Mask, TombolaError
from tombola.errors import UsageError
from tombola.shrinking import Effective, effective
from tombola.shrinking.effective import follow


def by_paths(masks: list[Tensor]) -> list[Tensor]:
    """The kept weights of a chain of layers that lie on a path, every path walked one at a time."""
    found = [torch.zeros_like(mask) for mask in masks]
    for path in product(*(range(size) for size in (masks[0].shape[1], *(len(mask) for mask in masks)))):
        steps = list(zip(path[1:], path[:-1], strict=True))
        if all(bool(mask[step]) for mask, step in zip(masks, steps, strict=True)):
            for mask, step in zip(found, steps, strict=True):
                mask[step] = True
    return found


def by_derivatives(model: nn.Module, mask: Mask, x: Tensor) -> Mask:
    """Where the outputs of a network with positive weights and no biases change with a weight: where it has a path.

    Batch norms pass their input on, activations are at places where their slopes are positive.
    """
    model = copy.deepcopy(model).double().eval()
    for name, parameter in model.named_parameters():
        drawn = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(len(name)), dtype=torch.float64)
        scale = 2 / max(1, parameter[0].numel()) if parameter.ndim > 1 else 0.0
        parameter.data = (drawn + 0.5) * scale * (mask.get(name, 1))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.zero_()
            module.running_var.fill_(1)
            module.weight.data.fill_(1)
    model(x).sum().backward()
    touched = {name: model.get_parameter(name).grad for name in mask}
    return Mask({name: kept & (touched[name] != 0) for name, kept in mask.items() if touched[name] is not None})  # type: ignore[operator]


@settings(max_examples=40, deadline=None)
@given(widths=st.lists(st.integers(1, 4), min_size=2, max_size=5), data=st.data())
def test_multilayer_perceptrons_path_by_path(widths: list[int], data: st.DataObject) -> None:
    layers = [nn.Linear(m, n) for m, n in pairwise(widths)]
    net = nn.Sequential(*[part for layer in layers for part in (layer, nn.Sigmoid())])
    masks = {}
    for name, whole in Mask.dense(net).items():
        bits = data.draw(st.lists(st.booleans(), min_size=whole.numel(), max_size=whole.numel()))
        masks[name] = torch.tensor(bits).view(whole.shape)
    found = effective(net, Mask(masks), torch.ones(2, widths[0]))
    assert found == Effective(mask=Mask(dict(zip(masks, by_paths(list(masks.values())), strict=True))))


FOLLOWED = ("mlp", "vgg", "resnet", "preact", "densenet", "mobilenet", "grouped", "sequence", "unet", "shared")


@pytest.mark.parametrize("density", [0.3, 0.06, 0.02])
@pytest.mark.parametrize("kind", FOLLOWED)
def test_networks_of_every_structure_by_derivatives(kind: str, density: float) -> None:
    model = network(kind, 16, 1 if kind == "sequence" else 0)  # draw 0 has average pooling where there is a choice
    if kind in ("unet", "resnet", "preact", "vgg"):  # a maximum passes one of its places on, an average all
        model = averaged(model)
    mask = random_mask(model, density, 3)
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64) + 0.5
    found = effective(model, mask, x)
    assert found.mask is not None and found.mask.within(mask)
    expected = by_derivatives(model, mask, x)
    assert expected.within(found.mask) and not found.whole
    if kind not in ("unet", "vgg"):  # in which some places of a small picture reach no output, though their channels do
        assert found.mask == expected


def averaged(model: nn.Module) -> nn.Module:
    """The same network with averages in the place of maxima, and no other way over a border."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            parent, _, own = name.rpartition(".")
            pool = nn.AvgPool2d(module.kernel_size, module.stride, module.padding)
            setattr(model.get_submodule(parent), own, pool)
    return model


def ones(*shape: int, without: tuple[object, ...] = ()) -> Tensor:
    """A mask without these rows, columns or places."""
    kept = torch.ones(shape, dtype=torch.bool)
    for place in without:
        kept[place] = False  # type: ignore[index]
    return kept


def counts(model: nn.Module, mask: dict[str, Tensor], *shape: int) -> dict[str, int]:
    """Effective weights of each tensor, other tensors dense, where everything could be followed."""
    found = effective(model, Mask({**dict(Mask.dense(model)), **mask}), torch.ones(2, *shape))
    assert found.mask is not None and not found.whole and not found.reason
    return found.mask.kept


COL0, COL1 = (slice(None), 0), (slice(None), 1)


def test_a_convolution_counted_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.Sigmoid(),
        nn.Conv2d(3, 4, 1),
        nn.Flatten(),
        nn.Linear(36, 2),
    )
    # filter 0 reads nothing; filter 1 has 5 weights and is read by nobody; filter 2 has 18; of the second layer's
    # filters one is read at a single pixel and one at none
    first = ones(3, 2, 3, 3, without=(0, (1, 0), (1, 1, 0), (1, 1, 1, 0)))
    second = ones(4, 3, 1, 1, without=(COL1,))
    last = ones(2, 36, without=((slice(None), slice(0, 17)),))
    assert first[1].sum() == 5
    found = counts(net, {"0.weight": first, "3.weight": second, "5.weight": last}, 2, 3, 3)
    assert found == {"0.weight": 18, "3.weight": 3, "5.weight": 2 * 19}


def test_paths_through_a_sum_have_a_direction() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = m.stem(x)
        x = x + m.two(F.relu(m.one(x)))
        return m.out(x)

    net = Lambda(run, stem=nn.Linear(2, 3), one=nn.Linear(3, 2), two=nn.Linear(2, 3), out=nn.Linear(3, 1))
    # channel 0 of the sum is not read, but `one` reads it from the stem: so the stem's row stays, and two's does not
    assert counts(net, {"out.weight": ones(1, 3, without=(COL0,))}, 2) == {
        "stem.weight": 6, "one.weight": 6, "two.weight": 4, "out.weight": 2,
    }  # fmt: skip
    # where nothing comes out of the branch the stream goes on
    assert counts(net, {"one.weight": ones(2, 3, without=(0, 1))}, 2) == {
        "stem.weight": 6, "one.weight": 0, "two.weight": 0, "out.weight": 3,
    }  # fmt: skip


def test_chunks_gates_and_parameters_that_are_added() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.out, self.shift = nn.Linear(2, 4), nn.Linear(2, 1), nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            one, two = (self.a(x) + self.shift).chunk(2, dim=-1)
            return self.out(F.pad(one * torch.sigmoid(two), (0, 0), value=1.0))

    # row 0 of `a` is empty, but its gate, row 2, lets the input through; column 1 and both its rows are read by nobody
    mask = {"a.weight": ones(4, 2, without=(0,)), "out.weight": ones(1, 2, without=(COL1,))}
    assert counts(Gated(), mask, 2) == {"a.weight": 2, "out.weight": 1}
    # without the gate's weights nothing depends on the input: a parameter that is added starts no path, nor do biases
    assert counts(Gated(), mask | {"a.weight": ones(4, 2, without=(0, 2))}, 2) == {"a.weight": 0, "out.weight": 0}


def test_values_do_not_count() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    nn.init.zeros_(net[0].weight)
    nn.init.constant_(net[2].weight, float("nan"))
    assert counts(net, {}, 3) == {"0.weight": 12, "2.weight": 8}


def test_a_layer_used_twice_counts_where_either_use_does() -> None:
    net = Lambda(lambda m, x: m.out(m.a(F.relu(m.a(x)))), a=nn.Linear(3, 3), out=nn.Linear(3, 1))
    # out reads unit 0 only: the second use needs row 0, the first the rows that row 0 reads, 0 and 1
    places = torch.tensor([[1, 1, 0], [0, 0, 1], [1, 1, 1]]) > 0
    mask = {"a.weight": places, "out.weight": torch.tensor([[True, False, False]])}
    assert counts(net, mask, 3) == {"a.weight": 3, "out.weight": 1}


def test_what_is_not_followed_is_named_and_counted_whole() -> None:
    model = network("recurrent", 16, 0)
    mask = random_mask(model, 0.2, 0)
    found = effective(model, mask, torch.rand(2, 3, 8, 8, dtype=torch.float64))
    assert found.mask is not None and found.whole["cell.weight_hh_l0"] == "lstm in cell is not followed"
    assert found.mask.kept["cell.weight_hh_l0"] == mask.kept["cell.weight_hh_l0"]
    assert found.mask.kept["hidden.weight"] < mask.kept["hidden.weight"] and "out.weight" not in found.whole
    tied = network("tied", 16, 0)
    found = effective(tied, random_mask(tied, 0.2, 0), torch.rand(2, 3, 8, 8, dtype=torch.float64))
    assert found.whole["code.weight"] == "used otherwise than as the weight of a layer"
    unused = Lambda(lambda m, x: m.a(x), a=nn.Linear(2, 2), b=nn.Linear(2, 2))
    assert counts(unused, {}, 2) == {"a.weight": 4, "b.weight": 0}


def test_a_model_that_cannot_be_traced_says_so() -> None:
    net = Lambda(lambda m, x: m.a(x) if float(x.sum()) > 0 else m.a(-x), a=nn.Linear(2, 2))
    found = effective(net, Mask.dense(net), torch.ones(1, 2))
    assert found.mask is None and found.reason.startswith("torch.export cannot follow it (")


@pytest.mark.parametrize(
    ("mask", "example", "message"),
    [
        (Mask({"x.weight": ones(2, 2)}), torch.ones(1, 2), "x.weight"),
        (Mask({"weight": ones(3, 2)}), torch.ones(1, 2), "shape"),
        (Mask({"weight": ones(2, 2)}), torch.ones(1, 5), "does not take the example"),
        (Mask({"weight": ones(2, 2)}), 3, "The example is a int"),
    ],
)
def test_what_does_not_fit(mask: Mask, example: object, message: str) -> None:
    with pytest.raises(TombolaError, match=message):
        effective(nn.Linear(2, 2), mask, example)  # type: ignore[arg-type]


def test_many_masks_of_one_network_are_followed_as_one_by_one() -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    dense, x = Mask.dense(net), torch.ones(2, 5)
    reached = follow(net, dense, x)
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        mask = Mask({name: torch.rand(shape, generator=generator) < 0.4 for name, shape in dense.shapes.items()})
        assert reached(mask).mask == effective(net, mask, x).mask
    assert reached(dense).mask == dense
    with pytest.raises(UsageError, match=r"names 'x'"):
        reached(Mask({"x": torch.ones(2, 2) > 0}))
