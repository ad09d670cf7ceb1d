"""Makes a network of features for `rootgan metrics` that needs no download beyond one PyPI wheel.

    rootgan detector alexnet --out .cache/detectors/alexnet.pt
    rootgan detector vgg16 --out .cache/detectors/vgg16.pt

The wheel stlpips-pytorch==0.0.2 (64 MB) is fetched once with pip, checked against its sha256 and read as a zip; nothing
in it is imported. It brings the convolutions of an AlexNet and a VGG16 with blurred pooling, and the layer weights of
the perceptual distance that was trained on them. The networks around the weights are written here.

`alexnet`: 1,152 features, for Frechet and kernel distances. `vgg16`: 1,472 features for precision, recall, density and
coverage, and a perceptual distance for the path length. These are not the networks of published numbers, so what they
measure compares only with itself, and rootgan calls it "Frechet distance, AlexNet features", never FID.

Weights: Copyright (c) 2022, Abhijay Ghildyal, Feng Liu; BSD 2-Clause (the licence is stored in the file that is made);
"Shift-tolerant Perceptual Similarity Metric", arXiv 2207.13686. Networks: Krizhevsky et al., 2012; Simonyan and
Zisserman, arXiv 1409.1556; blurred pooling: Zhang, arXiv 1904.11486; the distance: Zhang et al., arXiv 1801.03924.
"""

import argparse
import io
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import List

import torch
from torch import nn
from torch.nn import functional as F

from rootgan.command_line import Failure, Parser, told_in_one_line
from rootgan.wheels import CACHE, fetch_wheel
from rootgan.whole_files import replace_atomically, sha256_of

PACKAGE, MEGABYTES = "stlpips-pytorch==0.0.2", 64
WHEEL = "stlpips_pytorch-0.0.2-py3-none-any.whl"
WHEEL_SHA256 = "a412bf901a97c942b37af57c7c63b6e5d1aebfe8d1dfc17853d4b2f878630645"
LICENCE = "stlpips_pytorch-0.0.2.dist-info/licenses/LICENSE"
SIDE = 64  # pictures of other sizes are resized to it for features


class Blur(nn.Module):
    """Filters every channel with the stored filter and keeps every second pixel."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.filt = nn.Parameter(torch.zeros(channels, 1, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, C, H, W] -> [N, C, H / 2, W / 2]
        return F.conv2d(F.pad(x, [1, 1, 1, 1], mode="replicate"), self.filt, stride=2, groups=self.channels)


def alexnet() -> nn.ModuleList:
    """Makes five stages; the blurs behind the first convolution and before the next two take the place of strides."""
    def pool(channels: int) -> List[nn.Module]:
        return [nn.MaxPool2d(3, stride=1), Blur(channels)]

    return nn.ModuleList([
        nn.Sequential(nn.Conv2d(3, 64, 11, stride=2, padding=2), Blur(64), nn.ReLU()),
        nn.Sequential(*pool(64), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),
        nn.Sequential(*pool(192), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    ])


def vgg16() -> nn.ModuleList:
    """Makes five stages of 3x3 convolutions with pooling between them."""
    stages, channels = [], 3
    for index, (width, convolutions) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        layers: List[nn.Module] = [] if index == 0 else [nn.MaxPool2d(2, stride=1), Blur(channels)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        stages.append(nn.Sequential(*layers))
    return nn.ModuleList(stages)


class Trunk(nn.Module):
    """What both detectors share: pixels in, the outputs of all stages out."""

    def __init__(self, stages: nn.ModuleList, description: str):
        super().__init__()
        self.stages = stages
        self.description = description
        self.shift, self.scale = (nn.Parameter(torch.zeros(1, 3, 1, 1)) for _ in range(2))
        self.layer_weights = nn.ParameterList(
            [nn.Parameter(torch.zeros(1, list(stage.parameters())[-1].shape[0], 1, 1)) for stage in stages])

    def outputs(self, images: torch.Tensor, side: int) -> List[torch.Tensor]:
        """images [N, 1 or 3, H, W], 0 to 255 -> five tensors [N, C, h, w]; side 0 leaves the size alone."""
        x = images.to(torch.float32)
        if x.shape[1] == 1:
            x = x.repeat(1, 3, 1, 1)
        if side > 0 and (x.shape[2] != side or x.shape[3] != side):
            x = F.interpolate(x, size=[side, side], mode="bilinear", antialias=True)
        x = (x / 127.5 - 1.0 - self.shift) / self.scale
        outputs: List[torch.Tensor] = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Every channel's mean over its plane, all stages side by side: [N, F]."""
        return torch.cat([output.mean(dim=[2, 3]) for output in self.outputs(images, 64)], dim=1)


class AlexNetDetector(Trunk):
    def forward(self, images: torch.Tensor, return_features: bool = True) -> torch.Tensor:
        if not return_features:
            raise ValueError("this detector has features only, no classes")
        return self.features(images)

    @torch.jit.export
    def describe(self) -> str:
        return self.description


class Vgg16Detector(Trunk):
    def forward(self, images: torch.Tensor, resize_images: bool = True, return_features: bool = True,
                return_lpips: bool = False) -> torch.Tensor:
        if return_lpips:
            return self.perceptual(images)
        if not return_features:
            raise ValueError("this detector has features and a perceptual distance only, no classes")
        return self.features(images)

    def perceptual(self, images: torch.Tensor) -> torch.Tensor:
        """[N, F] such that the squared distance of two rows is the perceptual distance: the mean over the plane of the
        weighted squared difference of unit vectors across channels, summed over stages. The size is left alone."""
        rows: List[torch.Tensor] = []
        outputs = self.outputs(images, 0)
        for index, weight in enumerate(self.layer_weights):
            output = outputs[index]
            unit = output / (output.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
            pixels = float(output.shape[2] * output.shape[3])
            rows.append((unit * (weight / pixels).sqrt()).flatten(1))
        return torch.cat(rows, dim=1)

    @torch.jit.export
    def describe(self) -> str:
        return self.description


NETWORKS = {
    "alexnet": (alexnet, AlexNetDetector, "alex_shift_tolerant.pth", "AlexNet features"),
    "vgg16": (vgg16, Vgg16Detector, "vgg_shift_tolerant.pth", "VGG16 features"),
}


def described(which: str, features: int, weights_file: str, licence: str) -> str:
    return json.dumps({
        "contract": 1, "kind": "detector", "name": f"rootgan-{which}-1", "measure": NETWORKS[which][3],
        "features": features, "resize": f"antialiased bilinear to {SIDE}x{SIDE}",
        "source": f"{weights_file} of {PACKAGE}", "wheel_sha256": WHEEL_SHA256, "licence": licence})


def fill(detector: Trunk, weights: dict) -> None:
    """Copies the stored weights stage by stage, in their order; a name or shape left over is an error."""
    with torch.no_grad():
        named = dict(weights)
        detector.shift.copy_(named.pop("scaling_layer.shift"))
        detector.scale.copy_(named.pop("scaling_layer.scale"))
        for index, stage in enumerate(detector.stages):
            stored = [name for name in named if name.startswith(f"net.slice{index + 1}.")]
            ours = list(stage.parameters())
            if [named[name].shape for name in stored] != [parameter.shape for parameter in ours]:
                raise Failure(f"cannot use the weights in {WHEEL}: stage {index + 1} has other layers than expected")
            for name, parameter in zip(stored, ours):
                parameter.copy_(named.pop(name))
            detector.layer_weights[index].copy_(named.pop(f"lin{index}.model.1.weight"))
    if named:
        raise Failure(f"cannot use the weights in {WHEEL}: they have '{next(iter(named))}', which is not expected")


def make(which: str, wheel_path: Path) -> torch.jit.ScriptModule:
    stages, kind, weights_file, _ = NETWORKS[which]
    with zipfile.ZipFile(wheel_path) as wheel:
        stored = io.BytesIO(wheel.read(f"stlpips_pytorch/weights/vST0.0/{weights_file}"))
        licence = wheel.read(LICENCE).decode("utf-8")
    trunk = stages()
    features = sum(list(stage.parameters())[-1].shape[0] for stage in trunk)
    detector = kind(trunk, described(which, features, weights_file, licence))
    fill(detector, torch.load(stored, weights_only=True, map_location="cpu"))
    return torch.jit.script(detector.eval().requires_grad_(False))


def save(detector: torch.jit.ScriptModule, path: Path) -> None:
    """Writes the file without the names of source files, so that every machine makes the same bytes: features are only
    compared where the detector's sha256 is the same."""
    archive = io.BytesIO()
    torch.jit.save(detector, archive)
    with zipfile.ZipFile(archive) as made, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as kept:
        for entry in made.infolist():
            if not entry.filename.endswith(".debug_pkl") and not entry.filename.endswith("/.data/serialization_id"):
                kept.writestr(zipfile.ZipInfo(entry.filename), made.read(entry.filename))


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("--out", type=Path, required=True, help="the TorchScript file to write")
    parser.add_argument("--force", action="store_true", help="replace the file")
    parser.add_argument("--cache", type=Path, default=CACHE,
                        help="folder of the downloaded wheel (default: %(default)s)")
    args = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # TorchScript writes sets of constants in the order of Python's hashes, which differs from process to process.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    with told_in_one_line(f"cannot make the detector '{args.out}'", "check the rights and the free space there, or pass another --out"):
        if args.out.exists() and not args.force:
            raise Failure(f"cannot make the detector '{args.out}': it is there already; pass another --out, or --force to replace it")
        detector = make(args.network, fetch_wheel(args.cache, PACKAGE, WHEEL, WHEEL_SHA256, MEGABYTES))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(args.out, lambda scratch: save(detector, scratch))
        print(f"{args.out}: {json.loads(detector.describe())['features']:,} features, sha256 {sha256_of(args.out)}")
        print("weights: Abhijay Ghildyal, Feng Liu; BSD 2-Clause; from the PyPI wheel stlpips-pytorch 0.0.2")
