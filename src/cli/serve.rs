//! `rootgan serve`: a local page that shows runs and explores generators.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::cli::confine::write_only_to;
use crate::source::Source;
use crate::system::signals::StopRequest;
use crate::system::ui::say;
use crate::tensor::device;
use crate::web::explore::Explorer;
use crate::web::server::{Site, print_line, serve};

/// Show runs and explore generators in a browser.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Runs, or folders of runs [default: runs]
    #[arg(value_name = "RUNS")]
    pub runs: Vec<PathBuf>,
    /// A generator to explore, besides the snapshots of the runs; may be repeated
    #[arg(long, value_name = "SOURCE")]
    pub from: Vec<PathBuf>,
    /// Address to serve at; any other than 127.0.0.1 lets other machines in, if they know the token
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// Port to serve at; 0 takes one that is free
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Where pictures are made: auto (CUDA if usable), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Runs the command.
///
/// # Errors
/// A folder or generator that is not there, or an address that cannot be used.
pub fn run(args: ServeArgs) -> Result<()> {
    let device = device::parse(&args.device)?;
    let runs = match args.runs.is_empty() {
        false => args.runs,
        true => vec![PathBuf::from("runs")].into_iter().filter(|runs| runs.is_dir()).collect(),
    };
    for folder in &runs {
        ensure!(folder.is_dir(), "cannot serve '{}': no such folder; check the path", folder.display());
    }
    ensure!(
        !runs.is_empty() || !args.from.is_empty(),
        "there is nothing to show: pass folders of runs, or generators as --from SOURCE"
    );
    let mut named = Vec::new();
    for from in args.from {
        let file = Source::find(&from, None)?.generator()?;
        named.push((from, file));
    }
    write_only_to(&[], device);
    if !args.bind.is_loopback() {
        say(
            "warning: other machines can open this page if they know the token, and everyone on the way can read along",
        );
    }
    let stop = StopRequest::listen()?;
    let site = Site { roots: runs, explorer: Explorer::start(named, device)? };
    serve(site, SocketAddr::new(args.bind, args.port), &stop, |link| {
        print_line(&format!("open {link}"));
        say("Ctrl-C ends the server; on another machine, forward the port: ssh -L PORT:localhost:PORT HOST");
    })
}
