//! `rootgan devices`: which devices are usable, and why one is not.

use crate::tensor::device;
use anyhow::Result;

/// What `rootgan devices` takes: nothing.
#[derive(Debug, clap::Args)]
pub struct DevicesArgs {}

/// Runs the subcommand.
///
/// # Errors
/// None: a device that is not usable is an answer.
pub fn run(_args: DevicesArgs) -> Result<()> {
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
