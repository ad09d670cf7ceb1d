"""What has to be right on a GPU."""

import json
import math
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np

from kit import DEFAULT, GPU, LEVELS, MEAN_LEVELS, Failed, Kit, Line, last_numbers, pictures_of

# Losses of a few iterations, on the same pictures but with the device's own random numbers.
LOSSES = ["Loss/G/loss", "Loss/D/loss", "Loss/r1_penalty", "Loss/pl_penalty"]


def checks(kit: Kit) -> list[Line]:
    def devices(line: Line) -> str:
        out = kit.rootgan(line, "devices")
        row = next(text for text in out.splitlines() if text.startswith(kit.device.split(":")[0]))
        return " ".join(row.split())

    def agreement(pair_name: str, images: int):
        def work(line: Line) -> str:
            pair = DEFAULT if pair_name == "default" else kit.pair(line, pair_name)
            out = kit.rootgan(line, "devices", "--check", *pair, "--device", kit.device, "--images", images, "--json", ok=False)
            code, report = out.split("\n", 1)
            found = json.loads(next(text for text in report.splitlines() if text.startswith("{")))
            line.numbers = found
            worst = {kind: max(values, key=values.get) for kind, values in found["relative_differences"].items()}
            text = ", ".join(f"{kind} {found['relative_differences'][kind][name]:.1e} ({name})" for kind, name in worst.items())
            if code != "0":
                raise Failed(text)
            return text
        return work

    def generate(line: Line) -> str:
        folders = [kit.place / f"generated-{index}" for index in range(2)]
        for device, folder in zip(("cpu", kit.device), folders):
            kit.rootgan(line, "generate", *DEFAULT[:2], "--seeds", "0-15", "--noise-mode", "const", "--device", device,
                        "--outdir", folder, "--grid", kit.out / "generated.png")
        difference = np.abs(pictures_of(folders[0]) - pictures_of(folders[1]))
        if difference.max() > LEVELS or difference.mean() > MEAN_LEVELS:
            raise Failed(f"16 pictures differ by {difference.max()} levels, {difference.mean():.4f} in the mean")
        return f"16 pictures: {(difference > 0).mean() * 100:.3f} % of the values one level apart"

    def dump(line: Line) -> str:
        count = 64 if kit.tiny else 4000
        begun = time.monotonic()
        kit.rootgan(line, "dump", *DEFAULT[:2], "--out", kit.place / "dump.npz", "--count", count, "--device", kit.device)
        seconds = time.monotonic() - begun
        kit.rootgan(line, "dump", *DEFAULT[:2], "--out", kit.place / "dump", "--count", 64, "--device", kit.device)
        return f"{count} pictures in {seconds:.1f} s"

    def metrics(line: Line) -> str:
        count = 32 if kit.tiny else 1000
        fakes = kit.place / "fakes"
        kit.rootgan(line, "dump", *DEFAULT[:2], "--out", fakes, "--count", count, "--device", kit.device)
        values = []
        for device in ("cpu", kit.device):
            out = kit.rootgan(line, "metrics", "--fakes", fakes, "--data", GPU / "cats", "--detector", GPU / "alexnet.pt",
                              "--metrics", f"fid{count}_full,kid{count},pr{count},dc{count}", "--no-cache", "--device", device, "--json")
            results = [json.loads(text)["results"] for text in out.splitlines() if text.startswith("{")]
            values.append({name: value for result in results for name, value in result.items()})
        line.numbers = {"cpu": values[0], "device": values[1]}
        worst = max(abs(values[1][name] - value) / max(abs(value), 1e-3) for name, value in values[0].items())
        if not worst < 1e-3:
            raise Failed(f"metrics differ by {worst:.1e} from the CPU's")
        return f"{len(values[0])} values within {worst:.1e} of the CPU's"

    def precisions(line: Line) -> str:
        texts, expected = [], None
        for precision in ("fp32", "fp16", "bf16"):
            if kit.device == "cpu" and precision == "fp16":
                continue
            run = kit.finetune(line, f"run-{precision}", "--precision", precision, "--batch", "8", "--kimg",
                               "0.512" if not kit.tiny else "0.032", "--tick-kimg", "0.016", "--aug", "fixed", "--p", "0.5",
                               "--augpipe", "bgcfnc", "--loss", "logistic", "--snapshot-ticks", "0", "--image-ticks", "0",
                               "--grid", "2x2", "--pl-interval", "1", "--r1-interval", "1")
            rows = [json.loads(text) for text in (run / "stats.jsonl").read_text().splitlines()]
            skipped = [name for row in rows for name in row if name.startswith("Progress/skipped")]
            if skipped:
                raise Failed(f"{precision}: steps were skipped: {', '.join(sorted(set(skipped)))}")
            means = {name: float(np.mean([row[name]["mean"] for row in rows if name in row])) for name in LOSSES}
            if not all(math.isfinite(value) for value in means.values()):
                raise Failed(f"{precision}: {means}")
            expected = expected or means
            off = max(abs(means[name] / expected[name] - 1) for name in LOSSES)
            texts.append(f"{precision} within {off * 100:.0f} %")
            line.numbers[precision] = means
            if off > 0.2 and not kit.tiny:
                raise Failed(f"{precision}: mean losses are {off * 100:.0f} % off those of fp32")
        return "mean losses of all phases, all transforms: " + ", ".join(texts)

    def labels(line: Line) -> str:
        run = kit.finetune(line, "run-labels", "--batch", "8", "--kimg", "0.2" if not kit.tiny else "0.03", "--tick-kimg", "0.1",
                           "--aug", "ada", "--snapshot-ticks", "1", "--image-ticks", "1", "--grid", "3x3", pair=kit.pair(line, "labels"),
                           data="labelled")
        kit.rootgan(line, "generate", "--from", run, "--seeds", "0-3", "--class", "2", "--device", kit.device, "--outdir",
                    kit.place / "classes")
        return f"augmentation at p {last_numbers(run).get('Progress/augment', 0):.3f}"

    def commands(line: Line) -> str:
        run = kit.finetune(line, "run-commands", "--batch", "8", "--kimg", "0.2" if not kit.tiny else "0.03", "--tick-kimg", "0.1", "--snapshot-ticks",
                           "1", "--image-ticks", "1", "--grid", "2x2", "--metrics", "fid64_full", "--detector",
                           GPU / "alexnet.pt", "--freeze-d", "2", "--xflip")
        kit.rootgan(line, "export", "--from", run, "--out", kit.place / "exported")
        kit.rootgan(line, "inspect", kit.place / "exported/generator.pt")
        kit.rootgan(line, "plot", run, "--out", kit.place / "plot.png", "--stat", "Loss/D/loss")
        kit.rootgan(line, "metrics", "--from", run, "--data", GPU / "cats", "--detector", GPU / "alexnet.pt", "--metrics",
                    "fid64_full", "--device", kit.device)
        kit.rootgan(line, "compare", *DEFAULT, "--data", GPU / "labelled", "--losses", "rooted:20,logistic", "--seeds", "1",
                    "--out", kit.place / "compared", "--kimg", "0.03", "--eval-kimg", "0.016", "--metrics", "fid32_full", "--detector",
                    GPU / "alexnet.pt", "--batch", "8", "--device", kit.device, "--aug", "noaug", "--grid", "2x2")
        return "finetune with metrics and FreezeD, export, inspect, plot, metrics, compare"

    def weights(run: Path) -> np.ndarray:
        import torch
        newest = sorted((run / "checkpoints").glob("[0-9]*"))[-1] if (run / "checkpoints").is_dir() else None
        snapshots = sorted(run.glob("network-snapshot-*.G_ema.pt"))
        if not snapshots:
            raise Failed(f"no snapshot in '{run}' ({newest})")
        module = torch.jit.load(str(snapshots[-1]), map_location="cpu")
        return np.concatenate([value.detach().flatten().numpy() for _, value in sorted(module.named_parameters())])

    def resume(line: Line) -> str:
        texts = []
        for mode in ("", "--deterministic"):
            options = ["--batch", "8", "--kimg", "0.4" if not kit.tiny else "0.12", "--tick-kimg", "0.2", "--snapshot-ticks", "0", "--image-ticks", "0",
                       "--grid", "2x2", "--checkpoint-minutes", "0", "--aug", "ada", "--init-p", "0.3"] + ([mode] if mode else [])
            whole = [weights(kit.finetune(line, f"whole{index}{mode}", *options)) for index in range(2)]
            killed = interrupted(line, f"killed{mode}", options)
            size = float(np.linalg.norm(whole[0]))
            again, resumed = [float(np.linalg.norm(other - whole[0])) / size for other in (whole[1], killed)]
            line.numbers[mode or "usual"] = {"again": again, "resumed": resumed}
            texts.append(f"{mode or 'usual'}: run again {again:.1e}, killed 3 times {resumed:.1e}")
            exact = mode or kit.device == "cpu"
            if (exact and max(again, resumed) > 0) or resumed > max(20 * again, 1e-3):
                raise Failed("; ".join(texts))
        return "; ".join(texts)

    def interrupted(line: Line, name: str, options: list) -> np.ndarray:
        """The weights of a run that was killed three times, each time after new checkpoints."""
        outdir = kit.place / name
        command = [GPU / "rootgan", "finetune", *DEFAULT, "--data", GPU / "cats", "--outdir", outdir, "--device", kit.device, *options]
        for kill in range(3):
            with kit.started(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
                before, new = newest_checkpoint(outdir), 0
                while process.poll() is None and time.monotonic() < line.deadline:
                    time.sleep(0.05)
                    now = newest_checkpoint(outdir)
                    new += now != before
                    before = now
                    if new >= (4 if not kit.tiny else 2):
                        break
                if process.poll() is not None:
                    raise Failed(f"the run ended before kill {kill + 1}: {process.stderr.read()[-300:]}")
            line.log.append(f"killed at checkpoint {before}")
            run = next(outdir.iterdir())
            command = [GPU / "rootgan", "finetune", "--resume", run]
        kit.call(line, *command)
        return weights(run)

    def newest_checkpoint(outdir: Path) -> str:
        found = sorted(path.name for path in outdir.glob("*/checkpoints/*") if path.name[:1].isdigit() or path.name.startswith("checkpoint-"))
        return found[-1] if found else ""

    def interrupt(line: Line) -> str:
        outdir = kit.place / "interrupted"
        command = [GPU / "rootgan", "finetune", *DEFAULT, "--data", GPU / "cats", "--outdir", outdir, "--device", kit.device, "--kimg", "100",
                   "--batch", "8", "--tick-kimg", "0.2", "--grid", "2x2"]
        with kit.started(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            time.sleep(20 if not kit.tiny else 8)
            process.send_signal(signal.SIGINT)
            try:
                out, _ = process.communicate(timeout=max(1.0, line.deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise Failed("the run went on after SIGINT until the line's time was over") from None
        line.log.append(out[-2000:])
        run = next(outdir.iterdir(), None)
        if run is None or not any((run / "checkpoints").iterdir()):
            raise Failed(f"no checkpoint after SIGINT, exit code {process.returncode}")
        return f"Ctrl-C: exit code {process.returncode}, '{out.strip().splitlines()[-1][:120]}'"

    def memory(line: Line) -> str:
        if kit.device == "cpu":
            return "only on a GPU"
        limited = {"PYTORCH_CUDA_ALLOC_CONF": "per_process_memory_fraction:0.05"}
        options = ["--kimg", "0.128", "--tick-kimg", "0.064", "--batch", "64", "--grid", "2x2", "--snapshot-ticks", "0", "--image-ticks", "0",
                   "--precision", "fp32", "--device", kit.device, "--data", GPU / "cats"]
        pair = kit.pair(line, "64")
        said = kit.rootgan(line, "finetune", *pair, *options, "--outdir", kit.place / "full", ok=False, more=limited)
        if said.startswith("0\n") or "--micro-batch" not in said:
            raise Failed(f"a lack of memory says '{said.strip().splitlines()[-1][:200]}'")
        said_line = next(text for text in said.splitlines() if text.startswith("error:"))
        out = kit.rootgan(line, "finetune", *pair, *options, "--outdir", kit.place / "shrunk", "--shrink-micro-batch", more=limited)
        if "going on with --micro-batch" not in out + "".join(line.log):
            raise Failed("no smaller micro-batch was said")
        return f"'{said_line[:90]}...', and with --shrink-micro-batch it trains"

    def transfer(line: Line) -> str:
        begun = time.monotonic()
        run = kit.finetune(line, "transfer", "--config", "configs/demo.json", "--kimg", "20" if not kit.tiny else "0.02", "--batch", "16",
                           "--metrics", "fid2000_full" if not kit.tiny else "fid32_full", "--detector", GPU / "alexnet.pt")
        grid = sorted(path for path in run.glob("fakes[0-9]*.png"))[-1]
        shutil.copy(grid, kit.out / "transfer.png")
        name = "metric-fid2000_full.jsonl" if not kit.tiny else "metric-fid32_full.jsonl"
        values = [json.loads(text)["results"] for text in (run / name).read_text().splitlines()]
        return f"people to cats: {list(values[-1].values())[0]:.3f} in {time.monotonic() - begun:.0f} s (before {list(values[0].values())[0]:.3f})"

    def pairs(line: Line) -> str:
        """What the measurements need, while the checks compute."""
        for name in ("256", "1024"):
            kit.pair(line, name)
        return "random pairs of 256 and 1024 px made"

    return [
        Line("devices", 30, devices),
        Line("20 kimg of the demo's transfer", 170, transfer),
        Line("numbers of the default pair", 120, agreement("default", 8 if not kit.tiny else 4)),
        Line("kills and resumes", 170, resume),
        Line("numbers of a pair with labels", 90, agreement("labels", 8)),
        Line("pictures of generate", 60, generate),
        Line("pairs", 120, pairs),
        Line("precisions", 120, precisions),
        Line("out of memory", 90, memory),
        Line("numbers of a wide pair", 120, agreement("64", 4)),
        Line("numbers of a pair of 256 px", 120, agreement("256", 2 if not kit.tiny else 8)),
        Line("labels and ADA", 60, labels),
        Line("dump", 60, dump),
        Line("metrics", 120, metrics),
        Line("every command", 120, commands),
        Line("Ctrl-C", 60, interrupt),
    ]
