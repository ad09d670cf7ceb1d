"""Opens the page of `rootgan serve` in a headless Chromium while a run trains, and a report without any server.

    cargo build --release
    .venv/bin/python scripts/checks/page.py --shots docs/pictures

Checks that the slider changes the grid, that a run which trains goes on without a reload, that keys work, that texts are
legible and pictures described, in light, dark and on a phone, and that the browser has nothing to complain about. --shots
keeps pictures of the pages, --runs shows other runs on them, --short leaves the dark page and the phone out. Needs Chromium
and its driver (Debian: chromium, chromium-driver) and a network for pip once.

Exit code 1 if something is wrong, 2 if there is no browser, so that nothing is checked.
"""

import argparse
import base64
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "scripts/requirements-page.txt"
PLACE = ROOT / ".cache/page"
PAIR = "--resolution 16 --z-dim 32 --w-dim 32 --mapping-layers 2 --channel-base 256 --channel-max 32".split()
TRAINING = "--batch 8 --grid 12x6 --kimg 1000 --tick-kimg 0.04 --image-ticks 1 --snapshot-ticks 1000 --loss rooted".split()
PATIENCE = 120  # seconds for training to go on, on a busy machine
UNCHECKED = 2

# Text whose contrast with its background is under WCAG's 4.5, by computed colours.
FAINT = """
const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] > 0.6) return colour;
  }
  return [255, 255, 255];
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const faint = [];
while (walker.nextNode()) {
  const [text, element] = [walker.currentNode.textContent.trim(), walker.currentNode.parentElement];
  if (!text || !element.checkVisibility() || element.closest("script, style, .skip, option")) continue;
  const pair = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
  const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
  if (ratio < 4.5) faint.push(`${text.slice(0, 30)} ${ratio.toFixed(2)}`);
}
return faint;
"""
# Controls without a name, and pictures without a description (an empty one where words beside it say the same).
NAMELESS = """
const named = (e) => e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim();
return [...document.querySelectorAll("input, select, button, progress, a")].filter((e) => !named(e)).map((e) => e.outerHTML)
  .concat([...document.querySelectorAll("img:not([alt])")].map((e) => e.outerHTML))
  .concat([...document.querySelectorAll(".plot")].filter((e) => !e.getAttribute("aria-label")).map((e) => e.outerHTML));
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rootgan", type=Path, default=ROOT / "target/release/rootgan")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--shots", type=Path, help="folder for pictures of the pages")
    parser.add_argument("--runs", type=Path, help="runs to take pictures of, in place of the one that the check trains")
    args = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        print("there is no Chromium with its driver, so the page is NOT checked; on Debian: apt install chromium chromium-driver")
        return UNCHECKED
    if not has_selenium():
        return in_environment()
    with tempfile.TemporaryDirectory() as scratch:
        return check(args, Path(scratch), chromium, driver)


def has_selenium() -> bool:
    try:
        import PIL, selenium  # noqa: E401, F401
    except ImportError:
        return False
    return True


def in_environment() -> int:
    """Runs this script in an environment that has selenium."""
    python = PLACE / "bin/python"
    if not python.exists() or subprocess.run([python, "-c", "import PIL, selenium"], stderr=subprocess.DEVNULL).returncode:
        subprocess.run([sys.executable, "-m", "venv", "--clear", PLACE], check=True)
        if subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS]).returncode:
            print("selenium cannot be installed, so the page is NOT checked")
            return UNCHECKED
    return subprocess.run([python, *sys.argv]).returncode


class Faults:
    """What is wrong, told as it is found."""

    def __init__(self) -> None:
        self.count = 0

    def expect(self, holds: bool, what: str) -> None:
        self.count += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {what}", flush=True)


def check(args: argparse.Namespace, scratch: Path, chromium: str, driver: str) -> int:
    faults, rootgan = Faults(), args.rootgan.resolve()
    training = train(rootgan, scratch)
    server, address = serve(rootgan, [scratch / "runs"])
    try:
        with Browser(chromium, driver) as browser:
            list_and_run(browser, address, faults)
        for dark, phone in [] if args.short else [(True, False), (False, True)]:
            with Browser(chromium, driver, dark, phone) as browser:
                looks(browser, address, faults, "dark" if dark else "phone")
        report(rootgan, next((scratch / "runs").iterdir()), scratch, Browser(chromium, driver), faults)
    finally:
        end(server, signal.SIGINT)
        end(training, signal.SIGTERM)
    if args.shots:
        take_pictures(args, rootgan, scratch, chromium, driver)
    print("the page is as it should be" if not faults.count else f"{faults.count} faults")
    return min(faults.count, 1)


def train(rootgan: Path, scratch: Path) -> subprocess.Popen:
    """Begins a training that goes on for longer than the check."""
    python = ROOT / ".venv/bin/python"
    subprocess.run([python, ROOT / "python/rootgan", "new", "--outdir", scratch / "pair", *PAIR], check=True, stdout=subprocess.DEVNULL)
    pictures = ["pictures", "robots", "--count", "40", "--size", "16", "--out", scratch / "robots"]
    subprocess.run([python, ROOT / "python/rootgan", *pictures], check=True, stdout=subprocess.DEVNULL)
    command = [rootgan, "finetune", "--from", scratch / "pair", "--data", scratch / "robots", "--outdir", scratch / "runs", *TRAINING]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    wait(lambda: len(list((scratch / "runs").glob("*/fakes0*.png"))) >= 3, "the training does not begin")
    return process


def serve(rootgan: Path, folders: list[Path]) -> tuple[subprocess.Popen, str]:
    process = subprocess.Popen([rootgan, "serve", "--port", "0", *folders], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen, by: signal.Signals) -> None:
    process.send_signal(by)
    process.wait(60)


def wait(condition, complaint: str, seconds: float = PATIENCE):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := condition():
            return value
        time.sleep(0.2)
    raise SystemExit(f"FAIL {complaint} within {seconds:.0f} s")


class Browser:
    """A headless Chromium of a size and colour scheme."""

    def __init__(self, chromium: str, driver: str, dark: bool = False, phone: bool = False) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1280,900"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if phone:
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 1.0}})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        self.driver.quit()

    def open(self, address: str) -> None:
        self.driver.get(address)

    def run(self, script: str):
        return self.driver.execute_script(script)

    def text(self, selector: str) -> str:
        return self.run(f"return document.querySelector({selector!r})?.innerText ?? ''")

    def wait(self, script: str, complaint: str, seconds: float = 20):
        return wait(lambda: self.run(f"return {script}"), complaint, seconds)

    def key(self, selector: str, key: str) -> None:
        self.driver.find_element("css selector", selector).send_keys(key)

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def picture(self, path: Path, height: int) -> None:
        """Takes a picture of the page from its top."""
        from PIL import Image

        width, whole = self.run("return [document.documentElement.clientWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(whole, height), "scale": 1}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        # 256 colours show a page well, and take a quarter of the room.
        Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB").quantize(256).save(path, optimize=True)


def open_first_run(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.wait("document.querySelector('.runs a')", "the list shows no run")
    browser.run("document.querySelector('.runs a').click()")
    browser.wait("document.querySelectorAll('.plot canvas').length > 5", "the run shows no curves")
    browser.wait("document.querySelector('.stage .after')?.complete && document.querySelector('.stage .after').naturalWidth", "there is no grid")


def list_and_run(browser: Browser, address: str, faults: Faults) -> None:
    open_first_run(browser, address)
    faults.expect("token" not in browser.driver.current_url, "the token has left the address bar")
    faults.expect("training" in browser.text(".head .state"), "the run is shown as training")

    shown = "return [document.querySelector('.stage .after').src, document.querySelector('.grids output').value]"
    before = browser.run(shown)
    browser.run("const s = document.getElementById('grid-slider'); s.value = 0; s.dispatchEvent(new Event('input'))")
    browser.wait(f"document.querySelector('.stage .after').src !== {before[0]!r}", "the slider does not change the grid")
    first = browser.run(shown)
    faults.expect(first[1] == "before training", "the slider over kimg changes the grid")
    browser.key("#grid-slider", "\ue014")  # the right arrow
    browser.wait(f"document.querySelector('.stage .after').src !== {first[0]!r}", "an arrow key does not change the grid")
    faults.expect(True, "an arrow key moves the slider")
    clip = "return document.querySelector('.stage .after').style.clipPath"
    half = browser.run(clip)
    browser.key("#grid-wipe", "\ue014")
    faults.expect(browser.run(clip) != half, "a key moves the wipe between two grids")

    browser.run("window.unloaded = false; addEventListener('beforeunload', () => (window.unloaded = true)); window.mark = 1")
    state = "[document.querySelector('.head dd').innerText, document.querySelector('.log').childElementCount, document.getElementById('grid-slider').max]"
    old = browser.run(f"return {state}")
    for index, what in enumerate(("images seen", "log", "grids")):
        browser.wait(f"{state}[{index}] !== {old[index]!r}", f"the {what} do not go on while training", PATIENCE)
        faults.expect(browser.run("return window.mark === 1"), f"{what}: goes on without a reload")
    common(browser, faults, "light")


def looks(browser: Browser, address: str, faults: Faults, name: str) -> None:
    open_first_run(browser, address)
    common(browser, faults, name)


def common(browser: Browser, faults: Faults, name: str) -> None:
    """Expects what every view has to keep to."""
    faint, nameless = browser.run(FAINT), browser.run(NAMELESS)
    faults.expect(not faint, f"{name}: texts have a contrast of 4.5 or more {faint or ''}")
    faults.expect(not nameless, f"{name}: controls have names, pictures and plots descriptions {nameless or ''}")
    wide = browser.run("return document.documentElement.scrollWidth - innerWidth")
    faults.expect(wide <= 0, f"{name}: nothing is wider than the window {wide if wide > 0 else ''}")
    complaints = browser.complaints()
    faults.expect(not complaints, f"{name}: the browser's console is empty {complaints or ''}")


def report(rootgan: Path, run: Path, scratch: Path, browser: Browser, faults: Faults) -> None:
    """Opens a report as a file, with the network switched off."""
    out = scratch / "report.html"
    subprocess.run([rootgan, "report", run, "--out", out], check=True, stdout=subprocess.DEVNULL)
    with browser:
        browser.driver.set_network_conditions(offline=True, latency=0, throughput=0)
        browser.open(out.as_uri())
        browser.wait("document.querySelectorAll('.plot canvas').length > 5", "the report shows no curves")
        browser.wait("document.querySelector('.stage .after')?.naturalWidth", "the report shows no grid")
        before = browser.run("return document.querySelector('.stage .after').src")
        browser.run("const s = document.getElementById('grid-slider'); s.value = 0; s.dispatchEvent(new Event('input'))")
        browser.wait(f"document.querySelector('.stage .after').src !== {before!r}", "the report's slider does not change the grid")
        faults.expect(out.stat().st_size < 5_000_000, f"the report has {out.stat().st_size / 1e6:.2f} MB")
        common(browser, faults, "report")


def take_pictures(args: argparse.Namespace, rootgan: Path, scratch: Path, chromium: str, driver: str) -> None:
    args.shots.mkdir(parents=True, exist_ok=True)
    server, address = serve(rootgan, [args.runs or scratch / "runs"])
    try:
        for name, dark, phone, height in (("light", False, False, 1500), ("dark", True, False, 1500), ("phone", False, True, 1800)):
            with Browser(chromium, driver, dark, phone) as browser:
                browser.open(address)
                browser.wait("document.querySelector('.runs a')", "the list shows no run")
                time.sleep(1)
                browser.picture(args.shots / f"web-runs-{name}.png", 900)
                open_first_run(browser, address)
                time.sleep(1)
                browser.picture(args.shots / f"web-run-{name}.png", height)
    finally:
        end(server, signal.SIGINT)
    print(f"pictures: {args.shots}")


if __name__ == "__main__":
    sys.exit(main())
