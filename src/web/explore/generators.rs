//! The generators that can be explored: those that were named at the start, and the snapshots of the runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;

use super::view::View;
use crate::run::numbering::Number;
use crate::run::snapshot::{self, Network, SnapshotFiles, SnapshotManifest};
use crate::source::is_address;
use crate::system::ui::shell_command;
use crate::web::runs::catalog::Catalog;
use crate::web::runs::run::{WatchedRun, id_of};

/// A generator that can be explored.
#[derive(Clone, Debug, Serialize)]
pub struct GeneratorEntry {
    /// Name in addresses.
    pub id: String,
    /// The name that is shown.
    pub name: String,
    /// The run that it is a snapshot of, by its name in addresses.
    pub run: Option<String>,
    /// Thousands of images that it has seen.
    pub kimg: Option<f64>,
}

/// The generators that there are.
pub struct Generators {
    /// Those that were named at the start: what is shown, the name for commands, and the file.
    named: Vec<(GeneratorEntry, PathBuf, PathBuf)>,
    /// The runs, whose snapshots are the others.
    catalog: Arc<Catalog>,
}

impl Generators {
    /// Takes generators by the names that the user gave and their files, and the runs of a catalog.
    pub fn new(named: Vec<(PathBuf, PathBuf)>, catalog: Arc<Catalog>) -> Self {
        let named = named.into_iter().map(|(from, file)| {
            let name = from.display().to_string();
            (GeneratorEntry { id: id_of(&file), name, run: None, kimg: None }, from, file)
        });
        Self { named: named.collect(), catalog }
    }

    /// Lists the generators: those that were named, and the snapshots of runs.
    pub fn list(&self) -> Vec<GeneratorEntry> {
        let named = self.named.iter().map(|(entry, ..)| entry.clone());
        named.chain(snapshots(&self.catalog)).collect()
    }

    /// Finds a generator: its name for commands, and its file or the manifest of its snapshot.
    pub fn find(&self, id: &str) -> Result<(PathBuf, PathBuf)> {
        if let Some((_, from, file)) = self.named.iter().find(|(entry, ..)| entry.id == id) {
            return Ok((from.clone(), file.clone()));
        }
        let of_run = || {
            let (run, number) = id.split_once('-')?;
            let (run, number) = (self.catalog.find(run)?, number.parse::<Number>().ok()?);
            snapshots_of(&run).into_iter().find(|(files, _)| files.number == number).map(|(files, _)| files.manifest)
        };
        let manifest = of_run().context("there is no such generator; reload the page")?;
        Ok((manifest.clone(), manifest))
    }

    /// Returns the command that makes the picture of a view; where seeds alone do not say it, from its saved ws.
    ///
    /// # Errors
    /// A number out of range, or no such generator.
    pub fn command(&self, view: &View) -> Result<String> {
        view.plan()?;
        let (from, _) = self.find(&view.generator)?;
        let from = if is_address(&from) { from } else { std::path::absolute(from)? };
        let mut words = vec!["rootgan".into(), "generate".into(), "--from".into(), from.into_os_string()];
        if view.is_plain() {
            words.extend(["--seeds".into(), view.seed.to_string().into(), "--psi".into(), view.psi.to_string().into()]);
            words.extend(view.class.into_iter().flat_map(|class| ["--class".into(), class.to_string().into()]));
        } else {
            words.extend(["--ws".into(), "rootgan-ws.npz".into()]);
        }
        words.extend(["--noise-mode".into(), view.noise.clone().into(), "--outdir".into(), "out".into()]);
        Ok(shell_command(words.iter().map(|word: &std::ffi::OsString| word.as_os_str())))
    }
}

/// Lists the snapshots of runs.
fn snapshots(catalog: &Catalog) -> Vec<GeneratorEntry> {
    let of_run = |run: &Arc<WatchedRun>| {
        let entry = |(files, kimg): (SnapshotFiles, f64)| GeneratorEntry {
            id: format!("{}-{}", run.id, files.number),
            name: format!("{} at {kimg} kimg", run.full_name()),
            run: Some(run.id.clone()),
            kimg: Some(kimg),
        };
        snapshots_of(run).into_iter().map(entry).collect::<Vec<_>>()
    };
    catalog.runs().iter().flat_map(of_run).collect()
}

/// Lists the snapshots of a run with the thousands of images that they saw; those whose manifest or generator is a link do not count.
fn snapshots_of(run: &WatchedRun) -> Vec<(SnapshotFiles, f64)> {
    let names = run.folder.names();
    let is_there = |path: &Path| path.file_name().is_some_and(|name| names.iter().any(|known| name == known.as_str()));
    let with_kimg = |files: SnapshotFiles| {
        let manifest = is_there(&files.manifest).then(|| SnapshotManifest::read(&files.manifest).ok()).flatten()?;
        let generator = manifest.path_of(&files.manifest, Network::GEma).ok()?;
        is_there(&generator).then_some((files, manifest.kimg))
    };
    snapshot::all(run.folder.path()).unwrap_or_default().into_iter().filter_map(with_kimg).collect()
}
