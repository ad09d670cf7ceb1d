//! The launch that a run belongs to: torchrun starts the same command again where a process died, and the run goes on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoints;
use crate::files::atomic::write_json;
use crate::files::bounded::read_text;

/// Name of the file in a run's folder.
const FILE: &str = "launch.json";

/// One call of torchrun, with all its restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The name of the launch, which no other one has.
    pub id: String,
}

impl Launch {
    /// Reads from the environment which launch this process belongs to; None where torchrun did not start it. The name
    /// consists of torchrun's own, which may be that of another launch too, its process number and the time at which
    /// it started.
    pub fn from_env() -> Option<Self> {
        let run_id = std::env::var("TORCHELASTIC_RUN_ID").ok()?;
        let parent = std::os::unix::process::parent_id();
        let stat = read_text(Path::new(&format!("/proc/{parent}/stat"))).unwrap_or_default();
        // The name of the program, which may have spaces, ends with a bracket; the start is the 20th field after it.
        let start = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)).unwrap_or("0");
        Some(Self { id: format!("{run_id}-{parent}-{start}") })
    }

    /// Writes the launch into the folder of a run.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join(FILE), self)
    }

    /// Finds the newest run of this launch in `outdir` that has a checkpoint.
    pub fn find_run(&self, outdir: &Path) -> Option<PathBuf> {
        let mut runs: Vec<PathBuf> = fs::read_dir(outdir).ok()?.flatten().map(|entry| entry.path()).collect();
        runs.sort();
        runs.into_iter().rev().find(|run| {
            let launch = read_text(&run.join(FILE)).ok().and_then(|text| serde_json::from_str::<Self>(&text).ok());
            launch.as_ref() == Some(self) && Checkpoints::in_run(run, 1).list().is_ok_and(|all| !all.is_empty())
        })
    }
}
