//! The smallest pair of networks, with a part that tests choose.

use std::path::{Path, PathBuf};

/// The smallest pair of the contract, made of `Network`, which has `weight`, `check` for a number of images, and `mapped`.
const PAIR: &str = r#"
import json
from typing import Optional

class D(Network):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.check(images.shape[0])
        return (images * self.weight).square().mean(dim=[1, 2, 3]).unsqueeze(1)

class G(Network):
    def __init__(self, text: str):
        super().__init__()
        self.text = text

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z

    @torch.jit.export
    def describe(self) -> str:
        return self.text

    @torch.jit.export
    def run_mapping(self, z: torch.Tensor, c: Optional[torch.Tensor], psi: float, cutoff: Optional[int], update: bool):
        if update:
            self.mapped(z)
        return z.unsqueeze(1).repeat(1, 6, 1)

    @torch.jit.export
    def run_synthesis(self, ws: torch.Tensor, noise_mode: str, noise: Optional[torch.Tensor]):
        self.check(ws.shape[0])
        pictures = (ws[:, 0, :3] * self.weight).square()
        return pictures.reshape(-1, 3, 1, 1).repeat(1, 1, 16, 16)

SIZES = {"kind": "generator", "contract": 1, "z_dim": 8, "c_dim": 0, "w_dim": 8, "num_ws": 6, "img_resolution": 16,
         "img_channels": 3, "mapping_layers": 2, "channel_base": 256, "channel_max": 32, "conv_clamp": None, "noise_numel": 0}
net = G(json.dumps(SIZES)) if sys.argv[1].endswith("g.pt") else D()
"#;

/// Has memory for eight images only, and keeps a `w_avg`.
pub const TIGHT: &str = r#"
class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.w_avg = torch.nn.Parameter(torch.zeros(8), requires_grad=False)

    def check(self, images: int):
        if images > 8:
            raise RuntimeError("CUDA out of memory")

    def mapped(self, z: torch.Tensor):
        self.w_avg.copy_(torch.lerp(z.detach().mean(dim=0), self.w_avg, 0.9))
"#;

/// The files of `PAIR` made of this `Network`, in `folder`.
pub fn scripted_pair(folder: &Path, network: &str) -> (PathBuf, PathBuf) {
    super::configure_torch();
    let files = (folder.join("g.pt"), folder.join("d.pt"));
    for file in [&files.0, &files.1] {
        super::scripted(file, &format!("{network}{PAIR}"));
    }
    files
}
