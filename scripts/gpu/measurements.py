"""What is measured on a GPU, one line at a time with the GPU to itself."""

import json
import sys
from pathlib import Path

from kit import DEFAULT, GPU, Kit, Line

HERE = Path(__file__).resolve().parent


def measurements(kit: Kit) -> list[Line]:
    def bench(pair_name: str, batch: int, *options, more=None):
        def work(line: Line) -> str:
            pair = DEFAULT if pair_name == "default" else kit.pair(line, pair_name)
            seconds = "0" if kit.device == "cpu" else "3"
            out = kit.rootgan(line, "bench", *pair, "--batch", batch if not kit.tiny else 4, "--device", kit.device, "--json",
                              "--iterations", 5 if not kit.tiny else 1, "--free-seconds", seconds, *options, more=more)
            report = json.loads(out[out.index("{"):])
            line.numbers = report
            per_kimg = report["free"]["seconds_per_image"] if report["free"] else report["seconds_per_image"]
            text = f"{per_kimg * 1000:.2f} s/kimg"
            if report["free"] and report["free"]["share_of_time_in_kernels"] is not None:
                text += f", {report['free']['share_of_time_in_kernels'] * 100:.0f} % in kernels"
            if report["gpu_memory_mib"]:
                text += f", {report['gpu_memory_mib']:.0f} MiB"
            if report["gpu_tensors_peak_mib"]:
                text += f" (tensors {report['gpu_tensors_peak_mib']:.0f})"
            phases = report["phase_seconds"]
            text += "; ms: " + ", ".join(f"{name} {phases[name] * 1000:.1f}" for name in ("Gmain", "Greg", "Dmain", "Dreg"))
            if report["augmented_seconds_per_image"]:
                more_time = report["augmented_seconds_per_image"] / report["seconds_per_image"] - 1
                text += f"; augmentation {more_time * 100:+.0f} %"
            return text
        return work

    def script(name: str, *arguments):
        def work(line: Line) -> str:
            out = kit.call(line, sys.executable, HERE / name, "--device", kit.device, *(["--tiny"] if kit.tiny else []), *arguments)
            (kit.out / f"{Path(name).stem}.txt").write_text(out)
            return out.strip().splitlines()[-1]
        return work

    def profile(line: Line) -> str:
        pair = kit.pair(line, "256")
        return script("profile_phases.py", "--pair", str(Path(pair[1]).parent), "--library",
                      GPU / "lib/convolution_backward.so")(line)

    augmented = ["--augment-p", "0.5", "--augpipe", "bgc"]
    expandable = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    runs = [
        ("256 px batch 16: fp16 ADA", "256", 16, ["--precision", "fp16", *augmented], None),
        ("default pair batch 16: fp16", "default", 16, ["--precision", "fp16"], None),
        ("64 px batch 32: fp16 ADA", "64", 32, ["--precision", "fp16", *augmented], None),
        ("1024 px batch 4: fp16 ADA", "1024", 4, ["--precision", "fp16", *augmented], None),
        ("default pair batch 16: fp16 without cublasLt", "default", 16, ["--precision", "fp16"], {"DISABLE_ADDMM_CUDA_LT": "1"}),
        ("256 px batch 16: fp16 TF32", "256", 16, ["--precision", "fp16", "--tf32"], None),
        ("256 px batch 16: fp16 deterministic", "256", 16, ["--precision", "fp16", "--deterministic"], None),
        ("256 px batch 16: fp16 tuned", "256", 16, ["--precision", "fp16", "--tuned"], None),
        ("256 px batch 16: bf16", "256", 16, ["--precision", "bf16"], None),
        ("256 px batch 16: fp32", "256", 16, ["--precision", "fp32"], None),
        ("256 px batch 16: fp32 TF32", "256", 16, ["--precision", "fp32", "--tf32"], None),
        ("profile", None, 0, None, None),
        ("filters", None, 0, None, None),
        ("default pair batch 16: fp32", "default", 16, ["--precision", "fp32"], None),
        ("64 px batch 32: fp32", "64", 32, ["--precision", "fp32"], None),
        ("64 px batch 32: fp32 TF32", "64", 32, ["--precision", "fp32", "--tf32"], None),
        ("256 px batch 16: fp16 expandable segments", "256", 16, ["--precision", "fp16", *augmented], expandable),
        ("256 px batch 16: fp16 by libtorch's derivatives", "256", 16, ["--precision", "fp16", "--stock-derivatives"], None),
    ]
    lines = []
    for name, pair, batch, options, more in runs:
        if name == "profile":
            lines.append(Line("profile at 256 px", 60, profile, alone=True))
        elif name == "filters":
            lines.append(Line("variants of the filter", 45, script("filters.py"), alone=True))
        else:
            if kit.device == "cpu":
                options = ["--precision", "bf16" if "16" in options[1] else "fp32", *options[2:]]
            lines.append(Line(name, 45, bench(pair, batch, *options, more=more), alone=True))
    return lines
