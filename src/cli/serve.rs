//! `rootgan serve`: a local web page of runs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use tch::Device;

use super::confine::write_only_to;
use crate::source::Source;
use crate::system::signals::StopRequest;
use crate::system::ui::say;
use crate::tensor::device;
use crate::web::access::Access;
use crate::web::explore;
use crate::web::runs::{self, catalog::Catalog};
use crate::web::server::Server;
use crate::web::site::{self, Section};

/// The port where none is named, and how many after it are tried where it is taken.
const PORT: u16 = 7788;
const PORTS_TRIED: u16 = 20;

/// Show runs on a local web page, while they train and afterwards, and explore generators.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Run folders, folders that hold runs, or folders of comparisons [default: runs]
    #[arg(value_name = "RUNS")]
    pub runs: Vec<PathBuf>,
    /// Generator to explore, besides the snapshots of the runs: what --from takes in other commands; may be repeated
    #[arg(long, value_name = "SOURCE", action = clap::ArgAction::Append)]
    pub from: Vec<PathBuf>,
    /// Where pictures are made: auto (CUDA if usable), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Address to listen at; 0.0.0.0 lets in every machine that reaches this one and knows the token
    #[arg(long, value_name = "ADDR", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub bind: IpAddr,
    /// Port to listen at, 0 for any [default: 7788, or the next free one]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
}

/// Runs the command.
///
/// # Errors
/// A folder that is not there, or an address or port that cannot be had.
pub fn run(args: ServeArgs) -> Result<()> {
    let stop = StopRequest::listen()?;
    let ports = args.port.map_or(PORT..=PORT + PORTS_TRIED, |port| port..=port);
    let device = device::parse(&args.device)?;
    let sections = sections(&args, device)?;
    let server = Server::bind(args.bind, ports)?;
    // From here on everything is only read.
    write_only_to(&[], device);
    let access = Access::with_new_token(args.bind, server.address().port())?;
    println!("{}", printed(server.address(), access.token()));
    if !args.bind.is_loopback() {
        say(
            "warning: whoever reaches this machine and knows the address sees what is served, and the connection is not encrypted",
        );
    }
    if args.bind.is_unspecified() {
        say(format!("from another machine: http://{}:{}/?token=...", access.host_name(), server.address().port()));
    }
    say("Ctrl-C ends it");
    server.run(site::router(sections, access), &stop);
    Ok(())
}

/// Makes the pages: runs, and what there is to explore.
fn sections(args: &ServeArgs, device: Device) -> Result<Vec<Section>> {
    let usual = PathBuf::from("runs");
    let runs = match args.runs.is_empty() {
        // Whoever names a generator need not have runs.
        true if !args.from.is_empty() && !usual.is_dir() => Vec::new(),
        true => vec![usual],
        false => args.runs.clone(),
    };
    let mut named = Vec::new();
    for from in &args.from {
        named.push((from.clone(), Source::find(from, None)?.generator()?));
    }
    let catalog = Arc::new(Catalog::new(&runs)?);
    Ok(vec![runs::section(Arc::clone(&catalog)), explore::section(named, catalog, device)?])
}

/// Returns the address to open, which a browser on this machine understands.
fn printed(address: SocketAddr, token: &str) -> String {
    let shown = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => format!("127.0.0.1:{}", v4.port()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("[::1]:{}", v6.port()),
        other => other.to_string(),
    };
    format!("http://{shown}/?token={token}")
}
