"""Small networks of eight architectures, as PyTorch's two exporters write them: ../exported/torch_*.onnx.

    python tests/exporters/from_torch.py [DIR]

Run by hand where an exporter changed; the files are kept in the repository, because the tests are about what the
exporter wrote. Written with torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2. Each network comes four times:
torch_NAME (dynamo=False), torch_NAME_fixed (the same, at batch 1), torch_NAME_dynamo and torch_NAME_dynamo_fixed.
Weights are seeded; images are HEIGHT x WIDTH, not square, so that a swapped axis shows.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from clean import EXPORTED, cleaned
from torch import Tensor, nn
from torch.nn import functional

HEIGHT, WIDTH, CLASSES = 48, 40, 6
LOGIT_SPREAD = 2.0
SEED = 5


def conv(
    inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, stride: int = 1, groups: int = 1, dilation: int = 1,
    activation: type[nn.Module] = nn.ReLU,
) -> nn.Sequential:  # fmt: skip
    """Convolution that keeps the frame at stride 1, batch norm, activation."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (dilation * (sides[0] - 1) // 2, dilation * (sides[1] - 1) // 2)
    layer = nn.Conv2d(inputs, outputs, sides, stride, padding, dilation, groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), activation())


class Vgg(nn.Module):
    """Plain convolutions with bias, max pools, dense layers with dropout behind a fixed-size adaptive pool."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, 2),
            nn.Conv2d(8, 10, 3, padding=1), nn.BatchNorm2d(10), nn.ReLU(inplace=True), nn.MaxPool2d(2, 2),
            nn.Conv2d(10, 12, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool2d(2, 2),
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool2d((3, 5))
        self.head = nn.Sequential(nn.Linear(180, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.pool(self.features(x)), 1))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 beside an identity, or beside a strided 1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(inputs, 8, 1), conv(8, 8, 3, stride, groups), conv(8, outputs, 1, activation=nn.Identity)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride, activation=nn.Identity)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class Residual(nn.Module):
    """ResNet's strided 7x7 stem and padded max pool, bottlenecks with stride-2 shortcuts, one of them grouped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(
            Bottleneck(8, 16, 1), Bottleneck(16, 16, 1, groups=4), Bottleneck(16, 20, 2), Bottleneck(20, 20, 1)
        )
        self.head = nn.Linear(20, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1)
        return self.head(torch.flatten(x, 1))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gates = nn.Sequential(
            nn.Conv2d(channels, 4, 1), nn.ReLU(), nn.Conv2d(4, channels, 1), nn.Hardsigmoid()
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gates(self.pool(x))


class InvertedResidual(nn.Module):
    """MobileNet V3's block."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, excite: bool, act: type[nn.Module]) -> None:
        super().__init__()
        wide = 2 * inputs
        self.keeps = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            conv(inputs, wide, 1, activation=act), conv(wide, wide, kernel, stride, wide, activation=act),
            SqueezeExcite(wide) if excite else nn.Identity(), conv(wide, outputs, 1, activation=nn.Identity),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.keeps else self.body(x)


class Mobile(nn.Module):
    """Inverted residuals, with squeeze-and-excite and hardswish in the last ones."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            conv(3, 8, 3, 2, activation=nn.Hardswish),
            InvertedResidual(8, 8, 3, 1, False, nn.ReLU6), InvertedResidual(8, 10, 3, 2, False, nn.Hardswish),
            InvertedResidual(10, 10, 5, 1, False, nn.SiLU), InvertedResidual(10, 12, 3, 2, True, nn.Hardswish),
            conv(12, 16, 1, activation=nn.Hardswish),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(16, 12), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(12, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean([2, 3]))


class Dense(nn.Module):
    """Growing concatenations behind norms that come first, average-pooling transitions, a convolution for a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, 3, 2)
        self.layers = nn.ModuleList(self.layer(8 + 4 * index) for index in range(3))
        self.transition = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2, 2))
        self.later = nn.ModuleList(self.layer(10 + 4 * index) for index in range(2))
        self.norm = nn.BatchNorm2d(18)
        self.head = nn.Conv2d(18, CLASSES, 1)

    @staticmethod
    def layer(inputs: int) -> nn.Sequential:
        return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv(inputs, 8, 1), nn.Conv2d(8, 4, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.stem(x), 3, 2, ceil_mode=True)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        x = self.transition(x)
        for layer in self.later:
            x = torch.cat([x, layer(x)], 1)
        x = functional.adaptive_avg_pool2d(self.head(functional.relu(self.norm(x))), 1)
        return x.flatten(1)


class Inception(nn.Module):
    """Branches of asymmetric kernels beside pools: an average that leaves out its padding, a strided maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8, eps=1e-3), nn.ReLU())
        self.one = conv(8, 4, 1)
        self.tall = nn.Sequential(conv(8, 6, 1), conv(6, 6, (1, 7)), conv(6, 4, (7, 1)))
        self.wide = nn.Sequential(conv(8, 4, (3, 1)), conv(4, 4, (1, 3)))
        self.pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv(8, 4, 1))
        self.smaller = nn.Conv2d(16, 8, 3, 2)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x * torch.tensor([0.9, 1.1, 1.0]).view(1, 3, 1, 1) + 0.1)
        x = torch.cat([self.one(x), self.tall(x), self.wide(x), self.pooled(x)], 1)
        x = torch.cat([self.smaller(x), functional.max_pool2d(x, 3, 2)], 1)
        x = functional.avg_pool2d(torch.relu(x), (11, 9))
        return self.head(x.reshape(x.size(0), -1))


class Segmentation(nn.Module):
    """Dilated branches, then three ways up: nearest, a transposed convolution beside a skip, bilinear. (N, 4, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.down = nn.Sequential(conv(8, 12, 3, 2), conv(12, 12, 3, 2))
        self.rates = nn.ModuleList(conv(12, 5, 3, dilation=rate) for rate in (1, 2, 3))
        self.up = nn.ConvTranspose2d(8, 8, 4, 2, 1)
        self.merge = conv(15, 8, 1)
        self.fine = conv(16, 6)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x)
        x = self.down(first)
        x = self.merge(torch.cat([rate(x) for rate in self.rates], 1))
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        x = functional.interpolate(functional.relu(self.up(x)), scale_factor=0.5, mode="bilinear", align_corners=False)
        x = functional.interpolate(x, size=first.shape[2:], mode="bilinear", align_corners=False)
        return self.head(self.fine(torch.cat([x, first], 1)))


class ChannelsFirstNorm(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, H, W), by way of channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.wide, self.narrow = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.7))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        inner = self.scale * self.narrow(functional.gelu(self.wide(inner)))
        return x + inner.permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    """A patch stem, channels-last LayerNorm and Linear, downsampling by 2x2 convolutions behind a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 10, 4, 4), ChannelsFirstNorm(10))
        self.blocks = nn.Sequential(
            ConvNextBlock(10), ChannelsFirstNorm(10), nn.Conv2d(10, 12, 2, 2), ConvNextBlock(12)
        )
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x)).mean([-2, -1])))


class ShuffleUnit(nn.Module):
    """ShuffleNet V2's: half of the channels pass (stride 1), or both halves are strided; then a shuffle."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        inputs = channels // 2 if stride == 1 else channels
        self.left = nn.Sequential(
            conv(inputs, inputs, 3, stride, inputs, activation=nn.Identity), conv(inputs, channels // 2, 1)
        )
        self.right = nn.Sequential(
            conv(inputs, 8, 1), conv(8, 8, 3, stride, 8, activation=nn.Identity), conv(8, channels // 2, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            kept, rest = x.chunk(2, dim=1)
            x = torch.cat([kept, self.right(rest)], 1)
        else:
            x = torch.cat([self.left(x), self.right(x)], 1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width)
        return x.transpose(1, 2).contiguous().view(batch, channels, height, width)


class Shuffle(nn.Module):
    """Channel split and shuffle, and a plain grouped convolution between. Shapes depend on shapes, unit after unit."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Sequential(
            conv(3, 12, 3, 2), ShuffleUnit(12, 2), ShuffleUnit(12, 1), conv(12, 12, 3, groups=3),
            ShuffleUnit(12, 1), ShuffleUnit(12, 1), ShuffleUnit(12, 1),
        )  # fmt: skip
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.head(self.units(x).mean([2, 3])), 1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg": Vgg, "residual": Residual, "mobile": Mobile, "dense": Dense, "inception": Inception,
    "segmentation": Segmentation, "convnext": ConvNext, "shuffle": Shuffle,
}  # fmt: skip


@torch.no_grad()
def seeded(name: str) -> nn.Module:
    """The network, its batch norms calibrated on noise, its last layer scaled to logits of a common size."""
    torch.manual_seed(SEED)
    model = NETWORKS[name]()
    noise = torch.randn(16, 3, HEIGHT, WIDTH)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.uniform_(0.7, 1.3)
        norm.bias.uniform_(-0.3, 0.3)
        norm.momentum = None
    model(noise)
    model.eval()
    last = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
    found: list[Tensor] = []
    hook = last.register_forward_hook(lambda module, inputs, output: found.append(output))
    model(noise)
    hook.remove()
    last.weight.mul_(LOGIT_SPREAD / found[0].std())
    return model


def export(model: nn.Module, path: Path, dynamo: bool, fixed: bool) -> None:
    """`input` float32 (batch or 1, 3, HEIGHT, WIDTH) to `output`."""
    example = (torch.zeros(1 if fixed else 2, 3, HEIGHT, WIDTH),)
    names = {"input_names": ["input"], "output_names": ["output"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = None if fixed else ({0: torch.export.Dim("batch")},)
            torch.onnx.export(
                model, example, path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False, **names
            )
        else:
            axes = None if fixed else {"input": {0: "batch"}, "output": {0: "batch"}}
            torch.onnx.export(model, example, path, dynamo=False, dynamic_axes=axes, **names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, nargs="?", default=EXPORTED)
    parser.add_argument("--only", default="", help="networks, separated by commas")
    chosen = parser.parse_args()
    chosen.directory.mkdir(parents=True, exist_ok=True)
    for name in filter(None, chosen.only.split(",")) if chosen.only else NETWORKS:
        for dynamo in (False, True):
            for fixed in (False, True):
                model = seeded(name)
                path = chosen.directory / f"torch_{name}{'_dynamo' * dynamo}{'_fixed' * fixed}.onnx"
                export(model, path, dynamo, fixed)
                onnx.save(cleaned(onnx.load(str(path))), str(path))
                print(f"{path.name}: {path.stat().st_size / 1e3:.1f} kB", flush=True)


if __name__ == "__main__":
    main()
