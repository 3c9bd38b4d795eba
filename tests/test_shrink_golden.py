"""What must go from networks that are small enough to count by hand. Equal outputs cannot see that too little goes."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from shrink_nets import Lambda, masked_by_hand, network, random_mask, same
from torch import Tensor, nn

from tombola import Mask, shrink
from tombola.shrinking import Shrunk


def ones(*shape: int, without: tuple[object, ...] = ()) -> Tensor:
    """A mask without these rows, columns or places."""
    kept = torch.ones(shape, dtype=torch.bool)
    for place in without:
        kept[place] = False  # type: ignore[index]
    return kept


def shrunk(model: nn.Module, mask: dict[str, Tensor], *shape: int, inputs: str = "keep") -> Shrunk:
    """Shrink with other tensors dense, after making all weights positive, and compare."""
    model = model.double().eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.uniform_(0.1, 1)
        x, more = torch.rand(2, *shape, dtype=torch.float64), torch.randn(3, *shape, dtype=torch.float64)
    whole = Mask({**dict(Mask.dense(model)), **mask})
    small = shrink(model, whole, x, inputs=inputs, strict=True)  # type: ignore[arg-type]
    assert same(masked_by_hand(model, whole), small.model, x, more)
    return small


def sizes(small: Shrunk) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in small.model.named_parameters() if p.ndim > 1}


ROW0, ROW1, ROW2 = (0,), (1,), (2,)
COL0, COL1, COL2 = (slice(None), 0), (slice(None), 1), (slice(None), 2)


def test_units_without_outputs_and_units_without_inputs() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2, bias=False))
    small = shrunk(net, {"0.weight": ones(5, 4, without=(ROW1,)), "2.weight": ones(2, 5, without=(COL0,))}, 4)
    assert sizes(small) == {"0.weight": (3, 4), "2.weight": (2, 3)}
    assert small.gone == {"0.weight": {0: "no outputs", 1: "constant"}}
    assert {n: {d: i.tolist() for d, i in dims.items()} for n, dims in small.kept.items()} == {
        "0.weight": {0: [2, 3, 4]},
        "0.bias": {0: [2, 3, 4]},
        "2.weight": {1: [2, 3, 4]},
    }
    expected = net[2].weight[:, 1] * torch.relu(net[0].bias[1])  # b' = 0 + w relu(b)
    assert torch.equal(small.model.get_parameter("2.bias"), expected)
    assert (small.before, small.after) == (5 * 5 + 10, 3 * 5 + 8)
    layer = small.model[0]  # type: ignore[index]
    assert (layer.in_features, layer.out_features) == (4, 3)
    assert type(small.model) is nn.Sequential and not small.model.training


def test_dead_units_and_constants_go_on_to_the_ends() -> None:
    net = nn.Sequential(*[layer for _ in range(3) for layer in (nn.Linear(3, 3), nn.Tanh())], nn.Linear(3, 2))
    # forward: unit 0 of every layer reads only unit 0 before it, and the first reads nothing
    first = ones(3, 3, without=(ROW0,))
    chain = ones(3, 3, without=((0, 1), (0, 2)))
    small = shrunk(net, {"0.weight": first, "2.weight": chain, "4.weight": chain}, 3)
    assert sizes(small) == {"0.weight": (2, 3), "2.weight": (2, 2), "4.weight": (2, 2), "6.weight": (2, 2)}
    # backward: unit 2 of every layer is read only by unit 2 behind it, and the last by nothing
    chain = ones(3, 3, without=((0, 2), (1, 2)))
    small = shrunk(net, {"2.weight": chain, "4.weight": chain, "6.weight": ones(2, 3, without=(COL2,))}, 3)
    assert sizes(small) == {"0.weight": (2, 3), "2.weight": (2, 2), "4.weight": (2, 2), "6.weight": (2, 2)}
    assert small.gone == {name: {2: "no outputs"} for name in ("0.weight", "2.weight", "4.weight")}


def test_an_empty_layer_keeps_one_unit() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2))
    small = shrunk(net, {"2.weight": torch.zeros(6, 5, dtype=torch.bool)}, 4)
    assert sizes(small) == {"0.weight": (1, 4), "2.weight": (1, 1), "4.weight": (2, 1)}


def test_channels_through_batch_norm_pooling_and_flatten() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 4, 3)
    )
    # channel 0 is read by nothing: columns 0 to 3; channel 1 reads nothing; of channel 2 three of four columns are cut
    last = ones(3, 16, without=((slice(None), slice(0, 4)), (slice(None), slice(8, 11))))
    small = shrunk(net, {"0.weight": ones(4, 1, 3, 3, without=(ROW1,)), "5.weight": last}, 1, 6, 6)
    assert sizes(small) == {"0.weight": (2, 1, 3, 3), "5.weight": (3, 8)}
    assert small.model[1].num_features == 2 and len(small.model[1].running_mean) == 2  # type: ignore[index]
    assert (small.model[0].out_channels, small.model[5].in_features) == (2, 8)  # type: ignore[index]
    assert small.kept["5.weight"][1].tolist() == list(range(8, 16))


def test_features_in_time_are_flattened_in_their_order() -> None:
    net = Lambda(lambda m, x: m.out(F.relu(m.a(x)).flatten(1)), a=nn.Linear(2, 3), out=nn.Linear(9, 2))
    # (B, T=3, C=3): feature 1 is read at none of the columns 1, 4, 7
    small = shrunk(net, {"out.weight": ones(2, 9, without=((slice(None), [1, 4, 7]),))}, 3, 2)
    assert sizes(small) == {"a.weight": (2, 2), "out.weight": (2, 6)}
    assert small.kept["out.weight"][1].tolist() == [0, 2, 3, 5, 6, 8]


def test_as_many_steps_as_features_are_not_confused() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = torch.tanh(m.a(x))  # (B, T=4, C=4)
        return m.out(torch.tanh(m.b(x.transpose(1, 2))).transpose(1, 2))  # b mixes the steps, so they must stay

    net = Lambda(run, a=nn.Linear(3, 4), b=nn.Linear(4, 4), out=nn.Linear(4, 2))
    small = shrunk(net, {"out.weight": ones(2, 4, without=(COL0,)), "a.weight": ones(4, 3, without=(ROW1,))}, 4, 3)
    assert sizes(small)["b.weight"] == (4, 4)
    assert sizes(small)["a.weight"] == (4, 3)
    assert small.whole == dict.fromkeys(["a.weight", "b.weight"], "linear in b has its channels elsewhere")


def test_a_residual_stream_shares_its_channels() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = m.stem(x)
        x = x + m.two(F.relu(m.one(x)))
        return m.out(x.mean((2, 3)))

    net = Lambda(
        run,
        stem=nn.Conv2d(1, 4, 1),
        one=nn.Conv2d(4, 3, 3, padding=1),
        two=nn.Conv2d(3, 4, 1),
        out=nn.Linear(4, 2),
    )
    # `out` reads neither channel 0 nor 1, `one` reads channel 1: so only channel 0 goes, from stem, two and out
    mask = {"out.weight": ones(2, 4, without=(COL0, COL1)), "one.weight": ones(3, 4, 3, 3, without=(COL0,))}
    small = shrunk(net, mask, 1, 5, 5)
    assert sizes(small) == {
        "stem.weight": (3, 1, 1, 1),
        "one.weight": (3, 3, 3, 3),
        "two.weight": (3, 3, 1, 1),
        "out.weight": (2, 3),
    }
    # a constant branch is folded only where the stream is constant too
    small = shrunk(net, {"two.weight": ones(4, 3, 1, 1, without=(slice(None),))}, 1, 5, 5)
    assert sizes(small)["two.weight"] == (4, 1, 1, 1) and sizes(small)["one.weight"] == (1, 4, 3, 3)
    mask = {"two.weight": ones(4, 3, 1, 1, without=(ROW1,)), "stem.weight": ones(4, 1, 1, 1, without=(ROW1,))}
    small = shrunk(net, mask | {"one.weight": ones(3, 4, 3, 3, without=(COL1,))}, 1, 5, 5)
    assert sizes(small)["stem.weight"] == (3, 1, 1, 1) and sizes(small)["out.weight"] == (2, 3)
    assert small.gone["two.weight"] == {1: "constant"}


def test_a_depthwise_channel_goes_with_its_filters() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 6, 3, groups=3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    # of channel 1 both filters are unread, of channel 0 one
    small = shrunk(net, {"3.weight": ones(2, 6, 1, 1, without=((slice(None), [1, 2, 3]),))}, 1, 5, 5)
    assert sizes(small) == {"0.weight": (2, 1, 1, 1), "1.weight": (4, 1, 3, 3), "3.weight": (2, 4, 1, 1)}
    layer = small.model[1]  # type: ignore[index]
    assert (layer.groups, layer.in_channels, layer.out_channels) == (2, 2, 4)
    # a filter without weights is a constant: its channel goes too
    small = shrunk(net, {"1.weight": ones(6, 1, 3, 3, without=(ROW0, ROW1))}, 1, 5, 5)
    assert sizes(small)["0.weight"] == (2, 1, 1, 1) and small.gone["0.weight"] == {0: "no outputs"}


def test_a_group_goes_only_as_a_whole() -> None:
    net = nn.Sequential(nn.Conv2d(1, 6, 1), nn.Conv2d(6, 9, 3, groups=3), nn.ReLU(), nn.Conv2d(9, 2, 1))
    small = shrunk(net, {"3.weight": ones(2, 9, 1, 1, without=((slice(None), [0, 3, 4, 5]),))}, 1, 5, 5)
    assert sizes(small) == {"0.weight": (4, 1, 1, 1), "1.weight": (6, 2, 3, 3), "3.weight": (2, 6, 1, 1)}
    assert small.model[1].groups == 2  # type: ignore[index]
    back = nn.Sequential(nn.Conv2d(1, 6, 1), nn.ConvTranspose2d(6, 3, 3, groups=3), nn.ReLU(), nn.Conv2d(3, 2, 1))
    small = shrunk(back, {"3.weight": ones(2, 3, 1, 1, without=(COL1,))}, 1, 5, 5)
    assert sizes(small) == {"0.weight": (4, 1, 1, 1), "1.weight": (4, 1, 3, 3), "3.weight": (2, 2, 1, 1)}
    layer = small.model[1]  # type: ignore[index]
    assert (layer.groups, layer.in_channels, layer.out_channels) == (2, 4, 2)


def test_a_transposed_convolution() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2, stride=2), nn.Conv2d(3, 2, 1))
    mask = {"2.weight": ones(4, 3, 2, 2, without=(ROW0,)), "3.weight": ones(2, 3, 1, 1, without=(COL2,))}
    small = shrunk(net, mask, 1, 3, 3)
    assert sizes(small) == {"0.weight": (3, 1, 1, 1), "2.weight": (3, 2, 2, 2), "3.weight": (2, 2, 1, 1)}
    assert (small.model[2].in_channels, small.model[2].out_channels) == (3, 2)  # type: ignore[index]


def test_concatenated_tensors_lose_their_own_channels() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        return m.out(torch.cat([m.b(x), m.a(x), m.b2(x)], 1))

    net = Lambda(run, a=nn.Conv1d(1, 3, 1), b=nn.Conv1d(1, 2, 1), b2=nn.Conv1d(1, 2, 1), out=nn.Conv1d(7, 2, 1))
    # columns 1 (b), 2 and 4 (a), 5 and 6 (all of b2, which keeps one)
    small = shrunk(net, {"out.weight": ones(2, 7, 1, without=((slice(None), [1, 2, 4, 5, 6]),))}, 1, 4)
    assert sizes(small) == {
        "a.weight": (1, 1, 1),
        "b.weight": (1, 1, 1),
        "b2.weight": (1, 1, 1),
        "out.weight": (2, 3, 1),
    }
    assert small.kept["out.weight"][1].tolist() == [0, 3, 5]


def test_a_gate_that_is_always_0_closes_its_channel() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = m.a(x)
        return m.out((x * F.relu(m.gate(x.mean(2)) - 5).unsqueeze(2)).flatten(1))

    net = Lambda(run, a=nn.Conv1d(1, 4, 1), gate=nn.Linear(4, 4), out=nn.Linear(8, 2))
    # gate 1 is relu(b - 5) = 0 for every input; channel 2 is read by the gate only, so it stays; gate 3 reads nothing
    # but channel 3 as the others do
    mask = {"gate.weight": ones(4, 4, without=(ROW1, COL1))}
    small = shrunk(net, mask, 1, 2)
    assert sizes(small) == {"a.weight": (3, 1, 1), "gate.weight": (3, 3), "out.weight": (2, 6)}
    assert small.gone == {"a.weight": {1: "no outputs"}, "gate.weight": {1: "constant"}}


def test_a_batch_norm_without_slope_makes_a_constant() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
    with torch.no_grad():
        net[1].weight[2] = 0
        net[1].bias[2] = 0.7
    mask = Mask.dense(net)
    x = torch.randn(4, 3, dtype=torch.float64)
    small = shrink(net, mask, x, strict=True)
    assert sizes(small) == {"0.weight": (3, 3), "3.weight": (2, 3)}
    assert same(net, small.model, x)


def test_shared_and_tied_layers_stay_whole_and_are_named() -> None:
    model = network("shared", 16, 0)
    small = shrink(model, random_mask(model, 0.05, 0), torch.randn(2, 3, 8, 8, dtype=torch.float64), strict=True)
    assert small.whole == {"first.weight": "used 2 times", "block.weight": "used 2 times"}
    assert sizes(small)["block.weight"] == (16, 16) and sizes(small)["last.weight"][0] < 32
    model = network("tied", 16, 0)
    small = shrink(model, random_mask(model, 0.05, 0), torch.randn(2, 3, 8, 8, dtype=torch.float64), strict=True)
    assert small.whole["code.weight"] == "used 2 times"
    twice = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    twice[4].weight = twice[0].weight
    small = shrunk(twice, {"2.weight": ones(4, 4, without=(ROW0, COL0))}, 4)
    assert small.whole["0.weight"] == "shared with 4.weight"
    assert sizes(small)["2.weight"] == (4, 4)  # it stands between two that stay


def test_attention_and_recurrence_stay_whole_and_are_named() -> None:
    model = network("transformer", 16, 0)
    small = shrink(model, random_mask(model, 0.1, 0), torch.randn(2, 3, 8, 8, dtype=torch.float64), strict=True)
    assert small.whole["encoder.layers.0.self_attn.in_proj_weight"] == "a weight of a MultiheadAttention"
    assert sizes(small)["encoder.layers.0.linear1.weight"][0] < 64
    model = network("recurrent", 16, 0)
    small = shrink(model, random_mask(model, 0.1, 0), torch.randn(2, 3, 8, 8, dtype=torch.float64), strict=True)
    assert small.whole == {
        "cell.weight_ih_l0": "lstm in cell is not followed",
        "cell.weight_hh_l0": "lstm in cell is not followed",
        "embed.weight": "lstm in cell is not followed",
    }
    assert sizes(small)["cell.weight_ih_l0"] == (48, 8) and sizes(small)["hidden.weight"][0] < 32


def left_of_mlp(masks: list[Tensor], gather: bool) -> int:
    """Parameters left of a multilayer perceptron, by walking its units one at a time."""
    sizes = [masks[0].shape[1], *(len(m) for m in masks)]
    alive = [[True] * sizes[0]]
    for mask in masks:
        before = torch.tensor(alive[-1])
        alive.append([bool((row & before).any()) for row in mask])
    read = [[True] * sizes[-1]]
    for mask in reversed(masks):
        after = torch.tensor(read[0])
        read.insert(0, [bool((column & after).any()) for column in mask.t()])
    units = [max(1, sum(a and r for a, r in zip(*pair, strict=True))) for pair in zip(alive, read, strict=True)]
    units[0], units[-1] = units[0] if gather else sizes[0], sizes[-1]
    return sum(m * n + n for m, n in pairwise(units))


def test_a_lenet_ticket_of_3_5_per_cent_hardly_shrinks_but_its_inputs_do() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lenet = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
        )
        x = torch.rand(3, 1, 28, 28)
    border = F.pad(torch.zeros(20, 20, dtype=torch.bool), (4, 4, 4, 4), value=True).flatten()
    places = {}
    for (name, weight), keep in zip(Mask.dense(lenet).items(), (6_600, 2_200, 517), strict=True):  # as magnitudes do
        scores = lenet.get_parameter(name).detach().abs()
        scores = torch.where(border, scores / 10, scores) if name == "1.weight" else scores  # pixels that are always 0
        places[name] = torch.zeros(weight.numel(), dtype=torch.bool)
        places[name][scores.flatten().topk(keep).indices] = True
        places[name] = places[name].view(weight.shape)
    mask = Mask(places)
    assert (mask.alive, f"{mask.density:.1%}") == (9_317, "3.5%")
    for inputs in ("keep", "gather"):
        small = shrink(lenet, mask, x, inputs=inputs, strict=True)  # type: ignore[arg-type]
        assert small.after == left_of_mlp(list(mask.values()), inputs == "gather")
        assert same(masked_by_hand(lenet, mask), small.model, x)
        assert small.share > 0.95 if inputs == "keep" else small.share < 0.6
    gathered = small.kept["1.weight"][1]
    assert not bool(border[gathered].any()) and torch.equal(small.model[1][0].index, gathered)  # type: ignore[index]


def test_random_perceptrons_lose_exactly_what_can_go() -> None:
    for seed in range(12):
        net = nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 20), nn.Tanh(), nn.Linear(20, 4)).double()
        mask = random_mask(net, (0.2, 0.1, 0.05, 0.02)[seed % 4], seed)
        for inputs in ("keep", "gather"):
            x = torch.ones(2, 30, dtype=torch.float64)
            small = shrink(net, mask, x, inputs=inputs, strict=True)  # type: ignore[arg-type]
            assert small.after == left_of_mlp(list(mask.values()), inputs == "gather"), (seed, inputs)


def test_only_what_the_first_layers_read_is_gathered() -> None:
    net = nn.Sequential(nn.Conv1d(5, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(9, 2))
    mask = {"0.weight": ones(3, 5, 2, without=((slice(None), [1, 4]),))}
    assert sizes(shrunk(net, mask, 5, 4))["0.weight"] == (3, 5, 2)
    small = shrunk(net, mask, 5, 4, inputs="gather")
    assert sizes(small)["0.1.weight"] == (3, 3, 2)
    assert str(small.model[0][0]) == "Gather(3 places, dim=-2)"  # type: ignore[index]
    alone = shrunk(nn.Linear(4, 2), {"weight": ones(2, 4, without=(COL1,))}, 4, inputs="gather")
    assert sizes(alone) == {"1.weight": (2, 3)} and not alone.model.training
    again = shrunk(net, {}, 5, 4, inputs="gather")
    assert sizes(again)["0.weight"] == (3, 5, 2)  # all are read: nothing is put before it


def test_the_map_says_where_every_number_went() -> None:
    model = network("resnet", 16, 3)
    mask = random_mask(model, 0.03, 3)
    small = shrink(model, mask, torch.randn(2, 3, 8, 8, dtype=torch.float64), strict=True)
    masked, now = masked_by_hand(model, mask).state_dict(), small.model.state_dict()
    assert small.kept and small.after < small.before
    for name, value in now.items():
        for dim, index in small.kept.get(name, {}).items():
            masked[name] = masked[name].index_select(dim, index)
        assert masked[name].shape == value.shape
        assert name.endswith("bias") or torch.equal(masked[name], value), name  # a bias takes constants in
    text = str(small)
    assert f"{small.after:,} of {small.before:,} parameters are left" in text
    assert all(name in text for name in small.gone)
