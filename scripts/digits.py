#!/usr/bin/env python3
"""Exports scikit-learn's handwritten digits (1,797 of 8x8) for `cargo run --example digits`.

The wheel scikit-learn==1.7.2 (10 MB) is fetched once with pip, checked against its sha256 and read as a zip; nothing in
it is installed or imported. Which digits are for training and which for testing depends on --seed and --test-share
only, and each class is split in the same proportion.

    .venv/bin/python scripts/digits.py --out .cache/digits.safetensors

The digits are a copy of the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI
Machine Learning Repository, 1998, CC BY 4.0); scikit-learn is under the BSD-3-Clause licence.
"""

import argparse
import csv
import gzip
import io
import sys
import zipfile
from pathlib import Path

try:
    import numpy as np
    from safetensors.numpy import save_file
except ImportError as missing:
    sys.exit(f"error: {missing}; run `{sys.executable} -m pip install numpy safetensors`")

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from rootgan.wheels import Failure, fetch_wheel  # noqa: E402
from rootgan.whole_files import replace_atomically  # noqa: E402

CACHE = Path(__file__).resolve().parent.parent / ".cache"
PACKAGE, MEGABYTES = "scikit-learn==1.7.2", 10
WHEEL = "scikit_learn-1.7.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
WHEEL_SHA256 = "89877e19a80c7b11a2891a27c21c4894fb18e2c2e077815bcade10d34287b20d"
# The same wheel whatever the Python at hand, so that one sha256 fits.
WHEEL_TAGS = ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--platform",
              "manylinux2014_x86_64")
MEMBER = "sklearn/datasets/data/digits.csv.gz"
CREDIT = ("Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998 "
          "(CC BY 4.0), from the PyPI wheel scikit-learn==1.7.2 (BSD-3-Clause)")


def read_digits(wheel_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads the pictures, float32 [N, 64] within 0 and 1, row by row, and their classes, int64 [N]."""
    with zipfile.ZipFile(wheel_path) as wheel:
        text = gzip.decompress(wheel.read(MEMBER)).decode("ascii")
    table = np.array([[float(value) for value in row] for row in csv.reader(io.StringIO(text))])
    if table.ndim != 2 or table.shape[1] != 65:
        raise Failure(f"cannot read {MEMBER}: its table is {'x'.join(map(str, table.shape))}, expected Nx65")
    return (table[:, :64] / 16.0).astype(np.float32), table[:, 64].astype(np.int64)


def split(labels: np.ndarray, test_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices for training and for testing, ascending, every class in the same proportion."""
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    tests = [indices[:round(test_share * len(indices))] for indices in shuffled]
    trains = [indices[round(test_share * len(indices)):] for indices in shuffled]
    return np.sort(np.concatenate(trains)), np.sort(np.concatenate(tests))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=CACHE / "digits.safetensors",
                        help="the file to write (default: %(default)s)")
    parser.add_argument("--test-share", type=float, default=0.5, help="within 0 and 1 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another split (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=CACHE / "wheels",
                        help="folder of the downloaded wheel (default: %(default)s)")
    args = parser.parse_args()
    try:
        if not 0.0 < args.test_share < 1.0:
            raise Failure(f"cannot split with --test-share {args.test_share}: pass a number between 0 and 1")
        images, labels = read_digits(fetch_wheel(args.cache, PACKAGE, WHEEL, WHEEL_SHA256, MEGABYTES, WHEEL_TAGS))
        train, test = split(labels, args.test_share, args.seed)
        tensors = {"train_images": images[train], "train_labels": labels[train],
                   "test_images": images[test], "test_labels": labels[test]}
        record = {"credit": CREDIT, "seed": str(args.seed), "test_share": str(args.test_share)}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(args.out, lambda path: save_file(tensors, path, metadata=record))
    except (Failure, OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"'{args.out}': {len(train)} digits to train on, {len(test)} to test on")
    print(f"digits: {CREDIT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
