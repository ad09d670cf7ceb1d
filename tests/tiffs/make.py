"""Makes the TIFF files of this folder, one of each kind: python tests/tiffs/make.py (Pillow 12)."""

from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
rows, columns = np.mgrid[0:8, 0:8]
RGB = Image.fromarray(np.stack([rows * 30, columns * 30, 255 - rows * 20], 2).astype(np.uint8))

for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "F", "I"):
    (Image.fromarray(np.asarray(RGB), "RGB").convert(mode) if mode != "LAB" else
     Image.merge("LAB", RGB.split())).save(HERE / f"{mode.lower()}.tif")
Image.fromarray((rows * 8000).astype(np.uint16)).save(HERE / "i16.tif")
RGB.save(HERE / "big.tif", big_tiff=True)
for name, compression in (("lzw", "tiff_lzw"), ("deflate", "tiff_deflate"), ("packbits", "packbits"), ("jpeg", "jpeg")):
    RGB.save(HERE / f"{name}.tif", compression=compression)
