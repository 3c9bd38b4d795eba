"""Networks of every structure that shrinking follows, with random weights, statistics and masks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tombola.masks import Mask

__all__ = ["KINDS", "depends", "masked_by_hand", "network", "random_mask", "same"]


class Lambda(nn.Module):
    """A model made of layers and a function of them."""

    def __init__(self, run: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def conv_bn(inputs: int, outputs: int, kernel: int = 3, **options: object) -> nn.Sequential:
    options.setdefault("padding", kernel // 2)
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, **options), nn.BatchNorm2d(outputs), nn.ReLU())  # type: ignore[arg-type]


def mlp(width: int, draw: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(3 * 64, width * 4),
        nn.BatchNorm1d(width * 4),
        nn.ReLU(inplace=True),
        nn.Linear(width * 4, width * 2, bias=bool(draw % 2)),
        nn.PReLU(width * 2) if draw % 3 else nn.GELU(),
        nn.Dropout(0.5),
        nn.Linear(width * 2, width),
        nn.Tanh(),
        nn.Linear(width, 5),
    )


def vgg(width: int, draw: int) -> nn.Module:
    mode = ("zeros", "reflect", "replicate", "circular")[draw % 4]
    pool = (
        nn.MaxPool2d(3, 2, padding=1),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AvgPool2d(3, 2, padding=1),
        nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        nn.AdaptiveMaxPool2d(4),
        nn.Upsample(scale_factor=0.5, mode="bilinear"),
        nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(2)),
    )[draw % 7]
    return nn.Sequential(
        conv_bn(3, width, padding_mode=mode),
        pool,
        nn.Conv2d(width, width, 3, padding="same", padding_mode=mode, bias=bool(draw % 3)),
        nn.LeakyReLU(0.1),
        nn.Conv2d(width, width, 3, stride=2),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(width * 4, 5),
    )


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, before: bool) -> None:
        super().__init__()
        self.before = before
        self.one = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.two = nn.Conv2d(outputs, outputs, 3, padding=1, bias=before)
        self.norm1 = nn.BatchNorm2d(inputs if before else outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.short = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.before:
            return self.short(x) + self.two(F.relu(self.norm2(self.one(F.relu(self.norm1(x))))))
        out = self.norm2(self.two(F.relu(self.norm1(self.one(x)), inplace=True)))
        out += self.short(x)
        return F.relu(out)


def resnet(width: int, draw: int, before: bool = False) -> nn.Module:
    return nn.Sequential(
        conv_bn(3, width),
        Residual(width, width, before),
        nn.MaxPool2d(2),
        Residual(width, width + 4, before),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width + 4, 5),
    )


def preact(width: int, draw: int) -> nn.Module:
    return resnet(width, draw, before=True)


def densenet(width: int, draw: int) -> nn.Module:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = m.a(x)
        x = torch.cat([x, m.b(x)], 1)
        x = torch.cat([m.c(x), x], dim=1)
        return m.out(x.mean((2, 3)))

    half = width // 2 + 1
    return Lambda(
        run,
        a=conv_bn(3, width),
        b=conv_bn(width, half),
        c=conv_bn(width + half, width),
        out=nn.Linear(2 * width + half, 5),
    )


def mobilenet(width: int, draw: int) -> nn.Module:
    times = 1 + draw % 2
    return nn.Sequential(
        conv_bn(3, width),
        nn.Conv2d(width, width * times, 3, padding=1, groups=width),
        nn.BatchNorm2d(width * times),
        nn.ReLU6(),
        nn.Conv2d(width * times, width, 1),
        nn.Hardswish(),
        nn.Conv2d(width, width, 3, groups=width, bias=False),
        nn.Conv2d(width, width, 1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(width * 9, 5),
    )


def grouped(width: int, draw: int) -> nn.Module:
    return nn.Sequential(
        conv_bn(3, width),
        nn.Conv2d(width, width * 2, 3, padding=draw % 2, groups=width // 4),
        nn.ReLU(),
        nn.Conv2d(width * 2, width, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(width, width // 2, 3, groups=width // 4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(width * 2, 5),
    )


def gates(width: int, draw: int) -> nn.Module:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = m.a(x)
        gate = torch.sigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(x, 1).flatten(1)))))
        x = x * gate[:, :, None, None] if draw % 2 else x * F.relu(gate - 0.5).view(x.shape[0], -1, 1, 1)
        return m.out(m.b(x).amax((2, 3)))

    return Lambda(
        run,
        a=conv_bn(3, width),
        down=nn.Linear(width, width // 2),
        up=nn.Linear(width // 2, width),
        b=conv_bn(width, width, 1),
        out=nn.Linear(width, 5),
    )


def sequence(width: int, draw: int) -> nn.Module:
    """Conv1d over (B, 3, 64), then features at the end of (B, T, C), with T = C where draw is odd."""
    times = 8 if not draw % 2 else width

    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = F.relu(m.a(x.flatten(2)))
        x = F.adaptive_avg_pool1d(x, times).transpose(1, 2)  # (B, T, C)
        x = F.relu(m.b(x)) + x
        return m.out(x.flatten(1) if draw % 3 else x.permute(0, 2, 1).reshape(x.size(0), -1))

    return Lambda(
        run,
        a=nn.Conv1d(3, width, 5, padding=2, padding_mode="circular"),
        b=nn.Linear(width, width),
        out=nn.Linear(width * times, 5),
    )


def unet(width: int, draw: int) -> nn.Module:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        one = m.a(x)
        two = m.b(F.max_pool2d(one, 2))
        x = torch.cat([m.up(two), one], 1)
        return m.out(m.c(x))

    return Lambda(
        run,
        a=conv_bn(3, width),
        b=conv_bn(width, width + 4),
        up=nn.ConvTranspose2d(width + 4, width, 2, stride=2),
        c=conv_bn(2 * width, width),
        out=nn.Conv2d(width, 2, 1),
    )


def transformer(width: int, draw: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, width * 4, batch_first=True, norm_first=bool(draw % 2), activation="gelu")
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = m.encoder(m.embed(x.flatten(2).transpose(1, 2)))
        return m.out(torch.tanh(m.pool(x[:, 0])))

    return Lambda(run, embed=nn.Linear(3, 16), encoder=encoder, pool=nn.Linear(16, width), out=nn.Linear(width, 5))


def recurrent(width: int, draw: int) -> nn.Module:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        x, _ = m.cell(torch.relu(m.embed(x.flatten(2).transpose(1, 2)[:, :6])))
        return m.out(F.relu(m.hidden(x[:, -1])))

    cell = (nn.LSTM, nn.GRU)[draw % 2](8, 12, batch_first=True)
    return Lambda(run, embed=nn.Linear(3, 8), cell=cell, hidden=nn.Linear(12, width * 2), out=nn.Linear(width * 2, 5))


def shared(width: int, draw: int) -> nn.Module:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = m.first(x.flatten(1))
        x = F.relu(m.block(F.relu(m.block(x))))
        return m.out(F.relu(m.last(x)))

    return Lambda(
        run,
        first=nn.Linear(192, width),
        block=nn.Linear(width, width),
        last=nn.Linear(width, width * 2),
        out=nn.Linear(width * 2, 5),
    )


def tied(width: int, draw: int) -> nn.Module:
    """An autoencoder that decodes by the transposed weight of its encoder."""

    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = F.relu(m.hidden(F.relu(m.inner(x.flatten(1)))))
        return F.linear(F.relu(m.code(x)), m.code.weight.t())

    return Lambda(
        run, inner=nn.Linear(192, width * 2), hidden=nn.Linear(width * 2, width), code=nn.Linear(width, width)
    )


KINDS: dict[str, Callable[[int, int], nn.Module]] = {
    "mlp": mlp,
    "vgg": vgg,
    "resnet": resnet,
    "preact": preact,
    "densenet": densenet,
    "mobilenet": mobilenet,
    "grouped": grouped,
    "gates": gates,
    "sequence": sequence,
    "unet": unet,
    "transformer": transformer,
    "recurrent": recurrent,
    "shared": shared,
    "tied": tied,
}


def network(kind: str, width: int, draw: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network whose biases and batch statistics are random too; the same for the same arguments."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw)
        model = KINDS[kind](width, draw).to(dtype)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                nn.init.normal_(module.weight, 1.0, 0.3)
            bias = getattr(module, "bias", None)
            if isinstance(bias, Tensor):
                nn.init.normal_(bias, 0.0, 0.5)
    return model.eval()


def random_mask(model: nn.Module, density: float, seed: int) -> Mask:
    """The same share of every tensor, at random."""
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for name, whole in Mask.dense(model).items():
        places = torch.zeros(whole.numel(), dtype=torch.bool)
        places[torch.randperm(whole.numel(), generator=generator)[: max(1, round(density * whole.numel()))]] = True
        kept[name] = places.view(whole.shape)
    return Mask(kept)


def masked_by_hand(model: nn.Module, mask: Mask) -> nn.Module:
    """What a smaller network is compared with, by other code than shrinking uses."""
    masked = copy.deepcopy(model).eval()
    with torch.no_grad():
        for name, weight in masked.named_parameters():
            if name in mask:
                weight.copy_(torch.where(mask[name], weight, 0.0))
    return masked


@torch.no_grad()
def depends(model: nn.Module, x: Tensor, other: Tensor) -> bool:
    """Whether the outputs depend on the input at all."""
    return not torch.equal(model(x), model(other))


@torch.no_grad()
def same(model: nn.Module, smaller: nn.Module, *inputs: Tensor) -> bool:
    """Outputs equal to 1e-12 in float64 and 1e-5 in float32, relative to 1 + the largest."""
    for x in inputs:
        one, two = model(x), smaller(x)
        tolerance = 1e-12 if one.dtype == torch.float64 else 1e-5
        if one.shape != two.shape or not float((one - two).abs().max()) <= tolerance * (1 + float(one.abs().max())):
            return False
    return True
