//! `rootgan devices`: says which devices are usable, why one is not, and whether one computes what the CPU computes.

mod agreement;

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

use crate::cli::args::PairArgs;
use crate::system::ui::say;
use crate::tensor::device;
use crate::tensor::world::World;

/// Length of the tensor by which sums over processes are tried.
const SUMMED: i64 = 1 << 20;

/// Say which devices are usable, and why one is not.
#[derive(Debug, clap::Args)]
pub struct DevicesArgs {
    /// Compare the numbers of a training step of this pair on --device with those of the CPU: images, logits, gradients of
    /// every phase, augmented images, the optimiser's step and the average
    #[arg(long)]
    check: bool,
    /// The pair.
    #[command(flatten)]
    pair: PairArgs,
    /// auto (CUDA if usable), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", requires = "check")]
    device: String,
    /// Images that are compared, a multiple of the discriminator's minibatch-stddev group (4 in most)
    #[arg(long, default_value_t = 8, requires = "check")]
    images: u64,
    /// Print JSON
    #[arg(long, requires = "check")]
    json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// With `--check`: networks that cannot be loaded, or numbers that differ by more than rounding explains. Without it
/// there are none, since a device that is not usable is an answer.
pub fn run(args: DevicesArgs) -> Result<()> {
    ensure!(args.check || !args.pair.is_given(), "a pair is for --check; pass both, or neither");
    if args.check {
        let (generator, discriminator) = args.pair.find_pair()?;
        ensure!(args.images > 0, "cannot compare 0 images; pass --images 1 or more");
        let device = device::parse(&args.device)?;
        agreement::check(&generator, &discriminator, device, args.images as i64, args.json)?;
        return check_sums(device);
    }
    let report = device::report();
    let width = report.iter().map(|entry| entry.name.len()).max().unwrap_or(0).max("device".len());
    println!("{:width$}  usable  what", "device");
    for entry in &report {
        let usable = if entry.usable { "yes" } else { "no" };
        println!("{:width$}  {usable:6}  {}", entry.name, entry.detail);
    }
    let cuda = if tch::utils::has_cudart() { "with" } else { "without" };
    println!("this program is linked to a libtorch {cuda} CUDA");
    let chosen = device::parse("auto")?;
    println!("--device auto means {}", device::name(chosen));
    Ok(())
}

/// Sums a tensor by what several processes would use, over this one alone: every bit has to stay.
fn check_sums(device: Device) -> Result<()> {
    if !cfg!(feature = "distributed") {
        return Ok(());
    }
    let way = if device.is_cuda() && World::has_nccl() { "NCCL" } else { "gloo" };
    let context = || format!("cannot sum over processes by {way} on {}", device::name(device));
    let values = Tensor::randn([SUMMED], (Kind::Float, device));
    let before = values.copy();
    World::connected_to_itself().and_then(|world| world.sum_(&values)).with_context(context)?;
    ensure!(values.equal(&before), "a sum over one process by {way} changed bits on {}", device::name(device));
    say(format!("a sum over one process by {way} keeps every bit"));
    Ok(())
}
