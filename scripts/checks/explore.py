"""Uses the page *Explore* of `rootgan serve` in Chromium, compares what it saves with `rootgan generate`, and takes pictures of it.

    cargo build --release
    python3 -m venv /tmp/browser && /tmp/browser/bin/pip install -r scripts/requirements-page.txt
    /tmp/browser/bin/python scripts/checks/explore.py

Needs Chromium and its driver (Debian's packages chromium and chromium-driver). Exit code 1 if anything
is not as it should be; --pictures DIR keeps the pictures.
"""

import argparse
import io
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By

ROOT = Path(__file__).resolve().parents[2]
bad = []


def expect(good: bool, words: str) -> None:
    print(f"{'good' if good else 'BAD '} {words}", flush=True)
    if not good:
        bad.append(words)


def wait_for(condition, seconds: float = 30):
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        try:
            found = condition()
        except StaleElementReferenceException:  # the page has just drawn its list anew
            found = None
        if found:
            return found
        time.sleep(0.1)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rootgan", type=lambda path: Path(path).resolve(), default=ROOT / "target/release/rootgan")
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        check(args, Path(scratch))
    print(f"{len(bad)} faults")
    return 1 if bad else 0


def open_browser(width: int, height: int, dark: bool) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    for flag in ["--headless=new", "--no-sandbox", f"--window-size={width},{height}", "--hide-scrollbars"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
    return browser


def console(browser: webdriver.Chrome, page: str) -> None:
    lines = [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    expect(not lines, f"no errors in the console of {page} {lines[:2]}")


def picture(browser: webdriver.Chrome, args: argparse.Namespace, name: str) -> None:
    if args.pictures:
        args.pictures.mkdir(exist_ok=True, parents=True)
        shot = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        shot.quantize(128).save(args.pictures / f"{name}.png", optimize=True)


def slide(browser: webdriver.Chrome, name: str, value) -> None:
    browser.execute_script("const input = document.getElementById(arguments[0]); input.value = arguments[1];"
                           "input.dispatchEvent(new Event('input', {bubbles: true}));"
                           "input.dispatchEvent(new Event('change', {bubbles: true}));", name, value)


def check(args: argparse.Namespace, scratch: Path) -> None:
    (scratch / "runs").mkdir()
    shutil.copy(ROOT / "weights/generator.pt", scratch / "people.pt")
    server = subprocess.Popen([args.rootgan, "serve", scratch / "runs", "--port", "0", "--from", "people.pt", "--device", "cpu"],
                              cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        link = server.stdout.readline().strip()
        base, token = re.match(r"(http://[^/]+)/\?token=(\w+)", link).groups()
        explore_page(args, link, base, token, scratch)
        latency(base, token)
    finally:
        server.terminate()
        server.wait(10)


def ask(base: str, token: str, path: str) -> bytes:
    between = "&" if "?" in path else "?"
    return urllib.request.urlopen(f"{base}/{path}{between}token={token}").read()


def explore_page(args: argparse.Namespace, link: str, base: str, token: str, scratch: Path) -> None:
    browser = open_browser(1280, 900, dark=False)
    browser.get(link)
    browser.get(f"{base}/explore")
    shown = lambda: browser.execute_script("const p = document.getElementById('picture'); return p.complete && p.naturalWidth > 0 && p.dataset.query")
    first = wait_for(shown)
    expect(bool(first), f"a picture is shown ({first})")
    pixels = lambda: browser.execute_script(
        "const p = document.getElementById('picture'), c = document.createElement('canvas'); c.width = p.naturalWidth;"
        "c.height = p.naturalHeight; const x = c.getContext('2d'); x.drawImage(p, 0, 0);"
        "return Array.from(x.getImageData(0, 0, c.width, c.height).data).join()")

    def changes(words: str, act) -> None:
        before, query = pixels(), shown()
        act()
        expect(bool(wait_for(lambda: shown() and shown() != query)) and pixels() != before, f"{words} changes the picture")

    changes("psi", lambda: slide(browser, "psi", 0.5))
    changes("noise", lambda: slide(browser, "noise", "none"))
    changes("a direction", lambda: slide(browser, "direction3", 3))
    changes("mixing", lambda: browser.find_element(By.ID, "mixing").click())
    plane = browser.find_element(By.ID, "plane")
    changes("the plane", lambda: webdriver.ActionChains(browser).move_to_element_with_offset(plane, 40, -20).click().perform())
    changes("a key in the plane", lambda: plane.send_keys(webdriver.Keys.ARROW_RIGHT))
    changes("a seed", lambda: browser.find_elements(By.CSS_SELECTOR, "#seeds button")[5].click())
    browser.find_element(By.ID, "keep").click()
    expect(len(browser.find_elements(By.CSS_SELECTOR, "#kept button")) == 1, "a favourite is kept")
    wait_for(lambda: browser.execute_script("return Array.from(document.images).every(image => image.complete)"))
    mixed = shown()
    command = wait_for(lambda: browser.find_element(By.ID, "command").text)
    browser.execute_script("const line = document.getElementById('command'); line.textContent = line.textContent.replace(arguments[0], '')",
                           f"{scratch}/")
    picture(browser, args, "explore")
    # What is saved equals what the command makes, byte for byte: from seeds, and from saved latents.
    changes("reset", lambda: browser.find_element(By.ID, "reset").click())
    plain = shown()
    plain_command = wait_for(lambda: "--seeds" in browser.find_element(By.ID, "command").text and browser.find_element(By.ID, "command").text)
    for query, words, file in [(plain, plain_command, "seed0005.png"), (mixed, command, "ws0000.png")]:
        folder = scratch / file
        folder.mkdir()
        (folder / "rootgan-ws.npz").write_bytes(ask(base, token, f"api/explore/ws?{query}"))
        subprocess.run([args.rootgan, *shlex.split(words)[1:]], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        same = (folder / "out" / file).read_bytes() == ask(base, token, f"api/explore/picture?{query}")
        expect(same, f"the saved picture is what `{' '.join(words.split()[:3])} ... {words.split()[-1]}` makes, byte for byte ({file})")
    console(browser, "explore")
    browser.quit()
    for name, width, height, dark in [("explore-dark", 1280, 900, True), ("explore-phone", 390, 844, False)]:
        browser = open_browser(width, height, dark)
        browser.get(link)
        browser.get(f"{base}/explore")
        wait_for(lambda: browser.execute_script("return document.querySelectorAll('#seeds img').length > 0 && Array.from(document.images).every(image => image.complete)"))
        wide = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
        expect(wide <= 0, f"explore is not wider than a screen of {width} pixels ({wide})")
        picture(browser, args, name)
        browser.quit()


def latency(base: str, token: str) -> None:
    times = []
    for step in range(60):
        begun = time.monotonic()
        ask(base, token, f"api/explore/picture?generator=g0&seed=7&psi={0.4 + step / 100}")
        times.append(time.monotonic() - begun)
    times.sort()
    middle, late = times[len(times) // 2] * 1000, times[int(len(times) * 0.95)] * 1000
    expect(middle < 100, f"a changed slider has its picture in {middle:.0f} ms (median of 60; 95 %: {late:.0f} ms)")


if __name__ == "__main__":
    sys.exit(main())
