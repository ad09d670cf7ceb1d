#!/usr/bin/env python3
"""Compares `rootgan metrics` with torch-fidelity on PNG folders, with the same detector: two sets of pictures, and a dump of
the default pair against the pictures it was trained on, which a generator measured directly has to match too.

    cargo build --release && .venv/bin/python scripts/checks/metrics_fidelity.py

torch-fidelity (Apache-2.0, https://github.com/toshas/torch-fidelity) divides covariances by N - 1, the StyleGAN tools and
rootgan by N: its covariances are multiplied by (N - 1) / N before its own function compares them, and what it gives without
that is printed too. It is fetched with pip into .cache/fidelity, with torchvision, which it reads pictures by; neither is
needed for anything else.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["torch-fidelity==0.4.0", "torchvision==0.26.0", "tqdm"]
RELATIVE = 1e-4  # how far FID and KID may differ
PICTURES = 1000  # of each set; KID's subsets are as large, so that both programs take all pictures
DUMPED = 2000  # pictures of the default pair


def run(*command) -> str:
    done = subprocess.run([str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} failed")
    return done.stdout


def fetch(folder: Path) -> None:
    if not (folder / "torch_fidelity").is_dir():
        run(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target",
            folder, *PACKAGES)
    sys.path.insert(0, str(folder))


def pictures(which: str, count: int, seed: int = 0) -> Path:
    folder = ROOT / ".cache" / "pictures" / f"check-{which}-{count}-{seed}"
    run(sys.executable, ROOT / "python/rootgan", "pictures", which, "--count", count, "--size", 64, "--seed", seed, "--out", folder)
    return folder


class Fidelity:
    """Computes features and metrics with torch-fidelity and one detector."""

    def __init__(self, detector: Path):
        import torch
        from torch_fidelity.feature_extractor_base import FeatureExtractorBase
        from torch_fidelity.registry import register_feature_extractor
        from torch_fidelity.utils import create_feature_extractor

        class Extractor(FeatureExtractorBase):
            def __init__(self, name, features_list, **_):
                super().__init__(name, features_list)
                self.network = torch.jit.load(str(detector))

            @staticmethod
            def get_provided_features_list():
                return ("features",)

            @staticmethod
            def get_default_feature_layer_for_metric(metric):
                return "features"

            @staticmethod
            def can_be_compiled():
                return False

            @staticmethod
            def get_dummy_input_for_compile():
                return None

            def forward(self, pixels):
                # In float64, because np.mean of many float32 rows is off in the sixth digit.
                return (self.network(pixels, return_features=True).double(),)

        register_feature_extractor("rootgan", Extractor)
        self.extractor = create_feature_extractor("rootgan", ["features"], cuda=False, verbose=False)

    def features(self, folder: Path):
        from torch_fidelity.utils import extract_featuresdict_from_input_id

        found = extract_featuresdict_from_input_id(
            1, self.extractor, input1=str(folder), cuda=False, batch_size=32, samples_shuffle=False, verbose=False)
        return found["features"]

    @staticmethod
    def compare(reals, fakes) -> dict:
        from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
        from torch_fidelity.metric_kid import kid_features_to_metric
        from torch_fidelity.metric_prc import prc_features_to_metric

        def distance(divide_by_n: bool) -> float:
            statistics = [fid_features_to_statistics(features) for features in (fakes, reals)]
            for features, one in zip((fakes, reals), statistics):
                one["sigma"] = one["sigma"] * ((len(features) - 1) / len(features) if divide_by_n else 1.0)
            return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]

        found = {"fid": distance(True), "fid_n_minus_1": distance(False)}
        if len(reals) == len(fakes):
            kid = kid_features_to_metric(fakes, reals, kid_subsets=1, kid_subset_size=len(fakes), verbose=False)
            found["kid"] = kid["kernel_inception_distance_mean"]
            prc = prc_features_to_metric(fakes, reals, verbose=False)
            found |= {"precision": prc["precision"], "recall": prc["recall"]}
        return {name: float(value) for name, value in found.items()}


def rootgan(*options) -> dict:
    program = ROOT / "target" / "release" / "rootgan"
    lines = run(program, "metrics", "--device", "cpu", "--json", *options).splitlines()
    results = {}
    for line in lines:
        results |= json.loads(line)["results"]
    return results


def agree(what: str, ours: float, theirs: float, relative: float, absolute: float = 0.0) -> bool:
    difference = abs(ours - theirs)
    good = difference <= relative * abs(theirs) + absolute
    print(f"{'ok ' if good else 'BAD'} {what}: rootgan {ours:.8g}, torch-fidelity {theirs:.8g}, relative difference "
          f"{difference / max(abs(theirs), 1e-300):.1e}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", type=Path, default=ROOT / ".cache" / "detectors" / "alexnet.pt",
                        help="default: %(default)s, made where it is missing")
    parser.add_argument("--packages", type=Path, default=ROOT / ".cache" / "fidelity", help="default: %(default)s")
    args = parser.parse_args()
    # Programs are run in ROOT, while these are seen from the caller's folder.
    args.detector, args.packages = args.detector.resolve(), args.packages.resolve()
    if not args.detector.exists():
        run(sys.executable, ROOT / "python/rootgan", "detector", "alexnet", "--out", args.detector)
    fetch(args.packages)
    fidelity = Fidelity(args.detector)
    with_detector = ["--detector", args.detector, "--no-cache"]
    good = []

    robots, cats = pictures("robots", PICTURES), pictures("cats", PICTURES)
    names = f"fid{PICTURES}_full,kid{PICTURES}_full,pr{PICTURES}_full"
    ours = rootgan("--metrics", names, "--fakes", robots, "--data", cats, *with_detector)
    theirs = fidelity.compare(fidelity.features(cats), fidelity.features(robots))
    print(f"robots against cats, {PICTURES} each; Frechet distance with N - 1: {theirs['fid_n_minus_1']:.8g}")
    fid, kid, pr = names.split(",")
    good.append(agree("Frechet distance", ours[fid], theirs["fid"], RELATIVE))
    good.append(agree("kernel distance", ours[kid], theirs["kid"], RELATIVE))
    # Rounding decides whether a picture on the edge of a ball is inside: one may fall either way.
    good.append(agree("precision", ours[f"{pr}_precision"], theirs["precision"], 0, 1.5 / PICTURES))
    good.append(agree("recall", ours[f"{pr}_recall"], theirs["recall"], 0, 1.5 / PICTURES))

    generator, dumped = ROOT / "weights" / "generator.pt", ROOT / ".cache" / f"check-dump-{DUMPED}"
    people = pictures("people", DUMPED)
    run(ROOT / "target" / "release" / "rootgan", "dump", "--device", "cpu", "--generator", generator, "--out", dumped,
        "--count", DUMPED)
    name = f"fid{DUMPED}_full"
    of_dump = rootgan("--metrics", name, "--fakes", dumped, "--data", people, *with_detector)[name]
    of_generator = rootgan("--metrics", name, "--generator", generator, "--data", people, *with_detector)[name]
    theirs = fidelity.compare(fidelity.features(people), fidelity.features(dumped))
    print(f"a dump of {DUMPED} against as many people; Frechet distance with N - 1: {theirs['fid_n_minus_1']:.8g}")
    good.append(agree("Frechet distance of the dump", of_dump, theirs["fid"], RELATIVE))
    good.append(agree("Frechet distance of the generator", of_generator, theirs["fid"], RELATIVE))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
