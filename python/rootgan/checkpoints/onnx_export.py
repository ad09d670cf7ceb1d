"""Exports a generator as two ONNX files for any batch size: g_mapping.onnx (z, psi -> w) and g_synthesis.onnx
(w -> img, with the stored noise). They are run with onnxruntime and compared with the generator in TorchScript before
they are kept."""

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any, Sequence

import torch
from rootgan.command_line import way_to_install
from rootgan.networks.generator import Generator, Mapping, Synthesis
from torch import Tensor, nn
from rootgan.whole_files import replace_all_atomically

from .checkpoint import CheckpointError

BATCHES = (1, 5)
PSIS = (1.0, 0.7, 0.3, 0.0)
# How far results may differ, as a share of the largest entry: float32 sums are taken in another order.
TOLERANCE = 1e-4
OPSET = 18
FILES = ("g_mapping.onnx", "g_synthesis.onnx")


class MappingPart(nn.Module):
    """The mapping network with truncation: z [N, z_dim], psi [] -> w [N, num_ws, w_dim]."""

    def __init__(self, mapping: Mapping):
        super().__init__()
        self.mapping = mapping

    def forward(self, z: Tensor, psi: Tensor) -> Tensor:
        return torch.lerp(self.mapping.w_avg, self.mapping(z), psi)


class SynthesisPart(nn.Module):
    """The synthesis network with the stored noise: w [N, num_ws, w_dim] -> img [N, C, R, R]."""

    def __init__(self, synthesis: Synthesis):
        super().__init__()
        self.synthesis = synthesis

    def forward(self, w: Tensor) -> Tensor:
        return self.synthesis(w, "const")


def write(generator: Generator, folder: Path, source: str) -> list[str]:
    """Writes both files into `folder` after comparing them with the same generator in TorchScript, which is what rootgan
    runs."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise CheckpointError(f"cannot export '{source}' to ONNX: {error}; "
                              f"{way_to_install('onnx', 'onnxscript', 'onnxruntime')}") from None
    generator.eval()
    z, ws = torch.zeros(2, generator.z_dim), torch.zeros(2, generator.num_ws, generator.w_dim)
    with tempfile.TemporaryDirectory() as scratch:
        mapping, synthesis = (Path(scratch) / name for name in FILES)
        convert(MappingPart(generator.mapping), (z, torch.tensor(1.0)), ("z", "psi"), "w", mapping)
        convert(SynthesisPart(generator.synthesis), (ws,), ("w",), "img", synthesis)
        worst = compare(mapping, synthesis, torch.jit.script(generator), generator.z_dim, source)
        replace_all_atomically({folder / path.name: path.read_bytes() for path in (mapping, synthesis)})
    return [f"onnxruntime agrees with the TorchScript module to {worst:.1e} of the largest entry, at batch "
            f"{' and '.join(map(str, BATCHES))}", "the noise is the stored one (noise_mode const)"]


def convert(module: nn.Module, inputs: tuple[Tensor, ...], names: Sequence[str], output: str, path: Path) -> None:
    """Writes one ONNX file, in which the first axis of `inputs[0]` may have any length."""
    import onnx

    shapes = ({0: torch.export.Dim("n")}, *({} for _ in inputs[1:]))
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # else it names every operator of packages that are not installed
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, inputs, str(path), input_names=list(names), output_names=[output], dynamo=True,
                              dynamic_shapes=shapes, opset_version=OPSET, external_data=False, verbose=False)
    finally:
        logging.disable(before)
    model = onnx.load(str(path))
    # The exporter notes where in which source file each node was made, which is nobody's business and makes up most of
    # a small file.
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer,
                 *model.functions):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def compare(mapping: Path, synthesis: Path, reference: Any, z_dim: int, source: str) -> float:
    """Returns the largest difference between the two files and the module, relative to the largest entry; refuses one
    above the tolerance."""
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    of_mapping, of_synthesis = (onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
                                for path in (mapping, synthesis))
    worst, draws = 0.0, torch.Generator().manual_seed(0)
    for batch in BATCHES:
        z, where = torch.randn(batch, z_dim, generator=draws), f"of batch {batch}"
        for psi in PSIS:
            (w,) = of_mapping.run(["w"], {"z": z.numpy(), "psi": numpy.array(psi, numpy.float32)})
            with torch.no_grad():
                ws = reference.run_mapping(z, None, psi, None, False)
            worst = max(worst, difference(w, ws, f"w at psi {psi} {where}", source))
            (img,) = of_synthesis.run(["img"], {"w": ws.numpy()})
            with torch.no_grad():
                images = reference.run_synthesis(ws, "const", None)
            worst = max(worst, difference(img, images, f"img at psi {psi} {where}", source))
    return worst


def difference(found: Any, expected: Tensor, what: str, source: str) -> float:
    """Returns the largest difference as a share of the largest entry; refuses one above the tolerance."""
    found = torch.from_numpy(found)
    if found.shape != expected.shape:
        raise CheckpointError(f"cannot export '{source}' to ONNX: {what} has shape "
                              f"{list(found.shape)}, the TorchScript module gives {list(expected.shape)}; nothing was "
                              "written")
    share = ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()
    if not share <= TOLERANCE:
        raise CheckpointError(f"cannot export '{source}' to ONNX: {what} differs from the TorchScript "
                              f"module by {share:.1e} of its largest entry, expected at most {TOLERANCE:.0e}; nothing "
                              "was written")
    return share
