"""Plays films in Chromium: their length and size, seeking to the end, and the colours of a frame.

    cargo build --release
    python3 -m venv /tmp/browser && /tmp/browser/bin/pip install -r scripts/requirements-page.txt
    /tmp/browser/bin/python scripts/checks/video.py

Needs Chromium and its driver (Debian's packages chromium and chromium-driver). Exit code 1 if a film does not play.
"""

import argparse
import base64
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver

ROOT = Path(__file__).resolve().parents[2]
SECONDS, FPS, SCALE, SIDE = 4, 25, 4, 64

PLAY = """
const [url, at, done] = [arguments[0], arguments[1], arguments[2]];
const video = document.createElement('video');
video.muted = true;
video.onerror = () => done({error: video.error.message});
video.onloadeddata = () => { video.currentTime = at < 0 ? video.duration : at; };
video.onseeked = () => {
  const canvas = document.createElement('canvas');
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  canvas.getContext('2d').drawImage(video, 0, 0);
  done({duration: video.duration, width: video.videoWidth, height: video.videoHeight, time: video.currentTime,
        ended: video.ended, frame: canvas.toDataURL('image/png')});
};
video.src = url;
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rootgan", type=Path, default=ROOT / "target/release/rootgan")
    parser.add_argument("--keep", type=Path, help="folder to keep the films in")
    args = parser.parse_args()
    options = webdriver.ChromeOptions()
    for flag in ["--headless=new", "--no-sandbox", "--autoplay-policy=no-user-gesture-required"]:
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options)
    browser.set_script_timeout(60)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            # An address of a file needs its whole path.
            return 0 if check(args, browser, (args.keep or Path(scratch)).resolve()) else 1
    finally:
        browser.quit()


def check(args: argparse.Namespace, browser: webdriver.Chrome, folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    walk = [args.rootgan, "video", "--generator", ROOT / "weights/generator.pt", "--seeds", "0-3", "--seconds", str(SECONDS),
            "--fps", str(FPS), "--scale", str(SCALE), "--psi", "0.7", "--way", "w"]
    for name in ["walk.mp4", "walk.gif", "walk.webp"]:
        (folder / name).unlink(missing_ok=True)
        subprocess.run([*walk, "--out", folder / name], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run([args.rootgan, "generate", "--generator", ROOT / "weights/generator.pt", "--seeds", "0,1", "--psi", "0.7",
                    "--outdir", folder / "pictures"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (folder / "page.html").write_text("<!doctype html><title>films</title>")
    browser.get((folder / "page.html").as_uri())
    url = "data:video/mp4;base64," + base64.b64encode((folder / "walk.mp4").read_bytes()).decode()
    good = True
    # Seed 0 is the first frame; seed 1 comes after a quarter.
    for at, seed in [(-1, None), (0, 0), (SECONDS / 4, 1)]:
        played = browser.execute_async_script(PLAY, url, at)
        if "error" in played:
            print(f"walk.mp4: {played['error']}")
            return False
        fits = (abs(played["duration"] - SECONDS) < 0.01 and (played["width"], played["height"]) == (SIDE * SCALE,) * 2
                and (at >= 0 or abs(played["time"] - SECONDS) < 0.1))
        difference = None
        if seed is not None:
            shown = Image.open(io.BytesIO(base64.b64decode(played["frame"].split(",")[1]))).convert("RGB").resize((SIDE, SIDE), Image.BOX)
            made = Image.open(folder / f"pictures/seed{seed:04}.png").convert("RGB")
            pairs = zip(shown.tobytes(), made.tobytes())
            difference = sum(abs(a - b) for a, b in pairs) / len(made.tobytes())
            fits = fits and difference < 6
        print(f"walk.mp4 at {played['time']:.2f} of {played['duration']:.2f} s, {played['width']}x{played['height']}"
              + ("" if difference is None else f", mean difference to the picture of seed {seed}: {difference:.2f} of 255")
              + f": {'good' if fits else 'BAD'}")
        good = good and fits
    for name in ["walk.gif", "walk.webp"]:
        size = browser.execute_async_script(
            "const done = arguments[1], image = new Image(); image.onload = () => done([image.naturalWidth, image.naturalHeight]);"
            "image.onerror = () => done(null); image.src = arguments[0];", (folder / name).as_uri())
        frames = Image.open(folder / name).n_frames
        fits = size == [SIDE * SCALE] * 2 and frames >= SECONDS * FPS * 0.9
        print(f"{name}: {size}, {frames} frames, {(folder / name).stat().st_size // 1024} KiB: {'good' if fits else 'BAD'}")
        good = good and fits
    print(f"walk.mp4: {(folder / 'walk.mp4').stat().st_size // 1024} KiB")
    return good


if __name__ == "__main__":
    sys.exit(main())
