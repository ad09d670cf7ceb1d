//! `rootgan cache`: lists and removes what is kept so that it need not be made again.

use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::files::cache::{Cache, CachePart};
use crate::system::ui::{duration_text, harmless};

/// Show or empty the cache.
#[derive(Debug, clap::Subcommand)]
pub enum CacheCommand {
    /// List what is kept, what it takes, and when it was used last
    List,
    /// Remove everything, or the kinds that are named, but for what another process is making
    Clear {
        /// The kinds [default: all]
        kinds: Vec<CacheKind>,
    },
}

/// A kind, as the user types it.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum CacheKind {
    /// Checkpoints of other programs as networks
    Imports,
    /// Files of http(s) addresses
    Downloads,
    /// Features of real pictures
    Features,
    /// Packages with the parts of test pictures and detectors
    Wheels,
}

impl From<CacheKind> for CachePart {
    fn from(kind: CacheKind) -> Self {
        match kind {
            CacheKind::Imports => CachePart::Imports,
            CacheKind::Downloads => CachePart::Downloads,
            CacheKind::Features => CachePart::Features,
            CacheKind::Wheels => CachePart::Wheels,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// There is no place for a cache, or something in it cannot be removed.
pub fn run(command: CacheCommand) -> Result<()> {
    let cache =
        Cache::of_user().context("there is no cache: HOME is not set; set XDG_CACHE_HOME to a folder for one")?;
    match command {
        CacheCommand::List => list(&cache),
        CacheCommand::Clear { kinds } => {
            let kinds: Vec<CachePart> = kinds.into_iter().map(CachePart::from).collect();
            let cleared = cache.clear(if kinds.is_empty() { &CachePart::ALL } else { &kinds })?;
            for path in cleared.in_use {
                println!("in use, so it stays: '{}'", harmless(&path.display().to_string()));
            }
            let megabytes = cleared.bytes as f64 / 1e6;
            println!("freed {megabytes:.1} MB in '{}'", harmless(&cache.root().display().to_string()));
        }
    }
    Ok(())
}

fn list(cache: &Cache) {
    let entries = cache.entries();
    for entry in &entries {
        let age = SystemTime::now().duration_since(entry.used).unwrap_or_default();
        let megabytes = entry.bytes as f64 / 1e6;
        let path = harmless(&entry.path.display().to_string());
        let unfinished = if entry.is_unfinished() { " (unfinished)" } else { "" };
        let (kind, age) = (entry.kind.name(), duration_text(age));
        println!("{kind:<9} {megabytes:>9.1} MB  used {age:>11} ago  {path}{unfinished}");
    }
    let total: u64 = entries.iter().map(|entry| entry.bytes).sum();
    println!("{:.1} MB in '{}'", total as f64 / 1e6, harmless(&cache.root().display().to_string()));
}
