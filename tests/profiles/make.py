"""Made the pictures beside it, with their profiles, and with Pillow's LittleCMS what their values are in sRGB (*.expected.png)."""
import io, struct, sys, json, numpy as np
from pathlib import Path
from PIL import Image, ImageCms
def icc(prim, gamma, name):
    xyz = lambda x, y: np.array([x / y, 1, (1 - x - y) / y]); P = np.stack([xyz(*p) for p in prim], 1); W = xyz(.3127, .3290)
    D50 = np.array([.9642, 1, .8249]); B = np.array([[.8951, .2664, -.1614], [-.7502, 1.7135, .0367], [.0389, -.0685, 1.0296]])
    M = np.linalg.inv(B) @ np.diag((B @ D50) / (B @ W)) @ B @ (P * np.linalg.solve(P, W))
    s = lambda v: struct.pack(">i", round(v * 65536)); X = lambda v: b"XYZ \0\0\0\0" + b"".join(map(s, v))
    curv = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"; n = name.encode() + b"\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(n)) + n + b"\0" * 78; desc += b"\0" * (-len(desc) % 4)
    tags = [(b"desc", desc), (b"cprt", b"text\0\0\0\0none\0\0\0\0"), (b"wtpt", X(D50))] + [(k + b"XYZ", X(M[:, i])) for i, k in enumerate((b"r", b"g", b"b"))] + [(k + b"TRC", curv) for k in (b"r", b"g", b"b")]
    off = 132 + 12 * len(tags); tab, body = struct.pack(">I", len(tags)), b""
    for sig, d in tags: tab += sig + struct.pack(">II", off + len(body), len(d)); body += d
    h = struct.pack(">I", off + len(body)) + b"lcms" + struct.pack(">I", 0x02400000) + b"mntrRGB XYZ " + struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + b"".join(map(s, D50)) + b"\0" * 48
    return h + tab + body
out=Path(sys.argv[1]); out.mkdir(parents=True, exist_ok=True)
r=np.random.default_rng(0)
base=r.integers(0,256,(16,16,3),dtype=np.uint8)
profiles={"p3":icc([(.680,.320),(.265,.690),(.150,.060)],2.2,"P3 2.2"),"adobe":icc([(.64,.33),(.21,.71),(.15,.06)],2.19921875,"Adobe RGB like"),"srgb":ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
srgb=ImageCms.createProfile("sRGB")
for n,p in profiles.items():
    im=Image.fromarray(base); im.save(out/f"{n}.png",icc_profile=p)
    ref=ImageCms.profileToProfile(im,ImageCms.ImageCmsProfile(io.BytesIO(p)),srgb,outputMode="RGB") if n!="srgb" else im
    ref.save(out/f"{n}.expected.png")
im=Image.fromarray(base); im.save(out/"p3.webp",lossless=True,icc_profile=profiles["p3"]); im.save(out/"p3.tif",icc_profile=profiles["p3"])
im.save(out/"p3.jpg",quality=100,subsampling=0,icc_profile=profiles["p3"])
ImageCms.profileToProfile(Image.open(out/"p3.jpg"),ImageCms.ImageCmsProfile(io.BytesIO(profiles["p3"])),srgb,outputMode="RGB").save(out/"p3jpg.expected.png")
