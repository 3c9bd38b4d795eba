"""One test for each rule of padding, pooling, borders and shapes: whether a constant and a dead channel go."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from shrink_nets import Lambda, masked_by_hand, same
from torch import Tensor, nn

from tombola import Mask, shrink
from tombola.shrinking import Shrunk

GOES, STAYS = True, False

Op = Callable[[Tensor], Tensor]

# Between two 1x1 convolutions; whether a constant channel of value 0.5 goes. One of value 0 goes through all of these.
BETWEEN: dict[str, tuple[Op, bool]] = {
    "relu": (F.relu, GOES),
    "gelu": (F.gelu, GOES),
    "softplus": (F.softplus, GOES),
    "times and plus a number": (lambda x: 2 * x / 3 + 0 - x.pow(2), GOES),
    "max pool": (lambda x: F.max_pool2d(x, 2), GOES),
    "max pool, padded": (lambda x: F.max_pool2d(x, 3, 2, padding=1), GOES),
    "max pool, ceil": (lambda x: F.max_pool2d(x, 2, ceil_mode=True), GOES),
    "max pool with indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], GOES),
    "adaptive max pool": (lambda x: F.adaptive_max_pool2d(x, 2), GOES),
    "adaptive average pool": (lambda x: F.adaptive_avg_pool2d(x, 2), GOES),
    "average pool": (lambda x: F.avg_pool2d(x, 2), GOES),
    "average pool, padded": (lambda x: F.avg_pool2d(x, 3, 2, padding=1), STAYS),
    "average pool, padded, border not counted": (
        lambda x: F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False),
        GOES,
    ),
    "average pool, padded, ceil, border not counted": (
        lambda x: F.avg_pool2d(x, 3, 2, padding=1, ceil_mode=True, count_include_pad=False),
        GOES,
    ),
    "average pool, ceil": (lambda x: F.avg_pool2d(x, 2, ceil_mode=True), GOES),
    "average pool, padded, ceil": (lambda x: F.avg_pool2d(x, 2, padding=1, ceil_mode=True), STAYS),
    "average pool, other divisor": (lambda x: F.avg_pool2d(x, 2, divisor_override=3), STAYS),
    "pad 0": (lambda x: F.pad(x, (1, 1, 0, 0)), STAYS),
    "pad reflect": (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), GOES),
    "pad replicate": (lambda x: F.pad(x, (1, 2, 0, 1), mode="replicate"), GOES),
    "pad circular": (lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"), GOES),
    "pad less than nothing": (lambda x: F.pad(x, (-1, -1, -1, 0)), GOES),
    "resize nearest": (lambda x: F.interpolate(x, scale_factor=2), GOES),
    "resize bilinear": (lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"), GOES),
    "resize bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), GOES),
    "mean": (lambda x: x.mean((2, 3), keepdim=True), GOES),
    "largest": (lambda x: x.amax(3, keepdim=True), GOES),
    "sum": (lambda x: x.sum((2, 3), keepdim=True), STAYS),
    "crop": (lambda x: x[:, :, 1:, ::2], GOES),
    "parts joined": (lambda x: torch.cat([*x.split(2, 3), *x.chunk(2, dim=-1)], 3), GOES),
    "stacked": (lambda x: torch.stack([x, x * 1], 2).mean(2), GOES),
    "turned": (lambda x: x.transpose(2, 3).permute(0, 2, 1, 3).transpose(1, 2), GOES),
    "regrouped": (lambda x: x.flatten(2).unsqueeze(-1), GOES),
    "spread": (lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 2, 3), GOES),
    "copied": (lambda x: F.dropout(x, 0.5, False).clone().contiguous().to(torch.float64), GOES),
    "in place": (lambda x: (x * 1).relu_().mul_(2), GOES),
}
# The same where the whole must stay, dead or constant: what mixes or counts channels.
MIXED: dict[str, Op] = {
    "slices of channels": lambda x: torch.cat([x[:, 2:], x[:, :2]], 1),
    "channels in chunks": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "softmax": lambda x: x.softmax(1),
    "layer norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "group norm": lambda x: F.group_norm(x, 2),
    "shuffle": lambda x: x.view(x.size(0), 2, 2, x.size(2), x.size(3)).transpose(1, 2).flatten(1, 2),
    "padded channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, -1)),
    "mean over channels": lambda x: x - x.mean(1, keepdim=True),
    "sorted": lambda x: x.sort(1)[0],
    "times a tensor": lambda x: x * torch.arange(1.0, 5, dtype=x.dtype)[:, None, None],
    "normalised": lambda x: F.normalize(x, dim=1),
}


def one_constant(between: Op, last: nn.Module, value: float = 0.5) -> tuple[nn.Module, Mask]:
    """Four channels, then `between`, then `last`; channel 2 is the constant `value`, nothing reads channel 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Lambda(lambda m, x: m.last(between(m.first(x))), first=nn.Conv2d(2, 4, 1), last=last).double().eval()
        for parameter in net.parameters():
            nn.init.uniform_(parameter, 0.1, 1)
    assert isinstance(net.first.bias, Tensor)
    with torch.no_grad():
        net.first.bias[2] = value
    mask = dict(Mask.dense(net))
    mask["first.weight"][2] = False
    mask["last.weight"] = torch.ones_like(mask["last.weight"])
    mask["last.weight"][0 if isinstance(last, nn.ConvTranspose2d) else (slice(None), 0)] = False
    return net, Mask(mask)


def shrunk(net: nn.Module, mask: Mask, strict: bool = True) -> Shrunk:
    """Shrink at one size, compare at several."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        inputs = [torch.randn(b, 2, h, w, dtype=torch.float64) for b, h, w in ((2, 6, 6), (3, 7, 9), (1, 5, 6))]
    small = shrink(net, mask, inputs[0], strict=strict)
    assert same(masked_by_hand(net, mask), small.model, *inputs)
    return small


def units(small: Shrunk) -> list[int]:
    """Channels of the first convolution that are left."""
    return [at for at in range(4) if at not in small.gone.get("first.weight", {})]


@pytest.mark.parametrize("name", BETWEEN)
def test_a_constant_goes_through_or_stays(name: str) -> None:
    between, goes = BETWEEN[name]
    assert units(shrunk(*one_constant(between, nn.Conv2d(4, 3, 1)))) == ([1, 3] if goes else [1, 2, 3])
    if name != "softplus":
        assert units(shrunk(*one_constant(between, nn.Conv2d(4, 3, 1), value=0.0))) == [1, 3]


@pytest.mark.parametrize("name", MIXED)
def test_what_mixes_channels_keeps_them(name: str) -> None:
    small = shrunk(*one_constant(MIXED[name], nn.Conv2d(4, 3, 1)))
    assert units(small) == [0, 1, 2, 3]
    assert list(small.whole) == ["first.weight"]


@pytest.mark.parametrize(
    ("last", "goes"),
    [
        (nn.Conv2d(4, 3, 3), GOES),
        (nn.Conv2d(4, 3, 3, padding="valid"), GOES),
        (nn.Conv2d(4, 3, 1, padding="same"), GOES),
        (nn.Conv2d(4, 3, 3, padding=1), STAYS),
        (nn.Conv2d(4, 3, 3, padding=(0, 1)), STAYS),
        (nn.Conv2d(4, 3, 3, padding="same"), STAYS),
        (nn.Conv2d(4, 3, 1, padding=1), STAYS),
        (nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), GOES),
        (nn.Conv2d(4, 3, 3, padding="same", padding_mode="reflect"), GOES),
        (nn.Conv2d(4, 3, 3, padding=1, padding_mode="replicate"), GOES),
        (nn.ConvTranspose2d(4, 3, 2, stride=2), STAYS),
        (nn.ConvTranspose2d(4, 3, 3, padding=1), STAYS),
    ],
    ids=str,
)
def test_a_border_of_zeros_stops_a_constant(last: nn.Module, goes: bool) -> None:
    assert units(shrunk(*one_constant(F.relu, last))) == ([1, 3] if goes else [1, 2, 3])
    assert units(shrunk(*one_constant(F.relu, last, value=-0.5))) == [1, 3]  # relu makes it 0


def test_a_border_of_the_same_constant_does_not() -> None:
    def between(x: Tensor) -> Tensor:
        return F.pad(x, (1, 1, 1, 1), value=0.5)

    assert units(shrunk(*one_constant(between, nn.Conv2d(4, 3, 1)))) == [1, 3]
    assert units(shrunk(*one_constant(between, nn.Conv2d(4, 3, 1), value=0.0))) == [1, 2, 3]


def test_a_constant_enters_a_depthwise_convolution() -> None:
    for padding, left in ((0, [0, 1, 3]), (1, [0, 1, 2, 3])):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = Lambda(
                lambda m, x: m.last(m.middle(m.first(x))),
                first=nn.Conv2d(2, 4, 1),
                middle=nn.Conv2d(4, 4, 3, padding=padding, groups=4),
                last=nn.Conv2d(4, 3, 1),
            ).double()
        places = dict(Mask.dense(model))
        places["first.weight"] = places["first.weight"] & (torch.arange(4) != 2)[:, None, None, None]
        small = shrunk(model, Mask(places))
        assert units(small) == left


def test_hard_coded_sizes_are_a_fallback() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        return m.out(F.relu(m.two(F.relu(m.one(F.relu(m.zero(x)))))).view(-1, 4 * 36))

    net = Lambda(
        run, zero=nn.Conv2d(2, 4, 1), one=nn.Conv2d(4, 4, 1), two=nn.Conv2d(4, 4, 1), out=nn.Linear(144, 2)
    ).double()
    places = {name: kept.clone() for name, kept in Mask.dense(net).items()}
    places["one.weight"] = places["one.weight"] & (torch.arange(4) > 0)[:, None, None]
    places["one.weight"] = places["one.weight"] & (torch.arange(4) > 0)[:, None, None, None]
    places["two.weight"] = places["two.weight"] & (torch.arange(4) > 0)[:, None, None, None]
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    mask = Mask(places)
    with pytest.raises(ValueError, match="was not shrunk as far as its mask allows: reshapes keep their sizes"):
        shrink(net, mask, x, strict=True)
    small = shrink(net, mask, x)
    assert small.fallback.startswith("reshapes keep their sizes")
    assert small.whole == {"two.weight": "view in the model itself may have written its sizes down"}
    assert {n: tuple(p.shape) for n, p in small.model.named_parameters() if p.ndim > 1} == {
        "zero.weight": (3, 2, 1, 1),
        "one.weight": (3, 3, 1, 1),
        "two.weight": (4, 3, 1, 1),
        "out.weight": (2, 144),
    }
    assert same(masked_by_hand(net, mask), small.model, x)


def test_a_size_that_the_model_remembers_gives_it_back_whole() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        hidden = m.first(x)
        return m.last(hidden) if hidden.shape[1] == 4 else x.mean((2, 3)) @ torch.ones(2, 3, dtype=x.dtype)

    net = Lambda(run, first=nn.Conv2d(2, 4, 1), last=nn.Conv2d(4, 3, 1)).double()
    places = dict(Mask.dense(net))
    places["last.weight"] = places["last.weight"] & (torch.arange(4) > 0)[:, None, None]
    small = shrink(net, Mask(places), torch.randn(2, 2, 6, 6, dtype=torch.float64))
    assert small.fallback == "a smaller network is not the same: outputs have other shapes"
    assert (small.after, small.kept, small.gone) == (small.before, {}, {})
    assert set(small.whole) == {"first.weight", "last.weight"}
    assert not bool(small.model.get_parameter("last.weight")[:, 0].any())  # masked all the same


def test_writing_in_place_into_what_others_read() -> None:
    def view_first(x: Tensor) -> Tensor:
        part = x[:, :, 1:]
        part.mul_(0)  # x changes too
        return x

    def read_later(x: Tensor) -> Tensor:
        y = x * 1
        same = y.view(y.shape)
        y.add_(1)
        return same + y

    for between in (read_later, lambda x: F.dropout(x, 0.5, False).relu_() + x, view_first):
        net, mask = one_constant(between, nn.Conv2d(4, 3, 1))
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.sub_(0.5)  # both signs
        assert (0 in units(shrunk(net, mask))) == (between is view_first)
