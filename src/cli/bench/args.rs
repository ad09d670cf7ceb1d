//! The options of `rootgan bench`.

use std::path::PathBuf;

use crate::cli::args::PairArgs;
use crate::config::Pairing;
use crate::model::PrecisionKind;

/// Measure the time of each training phase, and memory.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// The pair.
    #[command(flatten)]
    pub pair: PairArgs,
    /// Images per iteration, a multiple of the discriminator's minibatch-stddev group (4 in most)
    #[arg(long, default_value_t = 16)]
    pub batch: u64,
    /// Measured iterations, after one that is not
    #[arg(long, default_value_t = 5)]
    pub iterations: usize,
    /// Measure with augmentation of this probability, 0 to 1, too, in turn with iterations without
    #[arg(long, value_name = "PROB")]
    pub augment_p: Option<f64>,
    /// Transforms of --augment-p, as for finetune
    #[arg(long, value_name = "PIPE", default_value = "bgc")]
    pub augpipe: String,
    /// Measure the other work too: generating, dumping as PNG, loading pictures, writing a checkpoint
    #[arg(long)]
    pub all: bool,
    /// Measure the features of this network (TorchScript) too, with --all
    #[arg(long, value_name = "FILE.pt", requires = "all")]
    pub detector: Option<PathBuf>,
    /// Also train as a run without augmentation does, for at least this long and 16 iterations: on a GPU the host then
    /// waits once an iteration, whereas timing single phases makes it wait for each. The share of the time in which
    /// kernels ran is measured too, which takes 3 s or more [default: 10 on CUDA, else 0]
    #[arg(long, value_name = "SECONDS")]
    pub free_seconds: Option<f64>,
    /// Record one iteration, operator by operator and on a GPU kernel by kernel, for chrome://tracing or ui.perfetto.dev
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
    /// Type that the networks compute in [default: fp32, on CUDA fp16 where the networks can]
    #[arg(long)]
    pub precision: Option<PrecisionKind>,
    /// Form of the loss, as for finetune; relativistic has R2 too
    #[arg(long, value_enum, default_value_t)]
    pub pairing: Pairing,
    /// Let a GPU round the factors of float32 products to 10 bits, as for finetune
    #[arg(long)]
    pub tf32: bool,
    /// Have a GPU give the same bits every time, as for finetune
    #[arg(long)]
    pub deterministic: bool,
    /// Have cuDNN try its algorithms out instead of choosing by rules
    #[arg(long, hide = true)]
    pub tuned: bool,
    /// Differentiate convolutions twice by libtorch's own formulas
    #[arg(long, hide = true)]
    pub stock_derivatives: bool,
    /// auto (CUDA if usable), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Train in N processes on this machine, which share the batch, as for finetune
    #[arg(long, value_name = "N")]
    pub processes: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
