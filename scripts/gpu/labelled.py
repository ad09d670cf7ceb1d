#!/usr/bin/env python3
"""Copies 60 pictures into a data set of three classes: scripts/gpu/labelled.py PICTURES OUT"""

import json
import shutil
import sys
from pathlib import Path

COUNT = 60


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(source.glob("*.png"))[:COUNT]
    for file in files:
        shutil.copy(file, out / file.name)
    labels = [[file.name, index % 3] for index, file in enumerate(files)]
    (out / "dataset.json").write_text(json.dumps({"labels": labels}))


if __name__ == "__main__":
    main()
