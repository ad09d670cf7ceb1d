//! Keeps features of real pictures between calls, under a key of the pictures' content: a folder that is moved is found
//! again, one whose pictures change is not.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::files::cache::{Cache, CachePart};

use super::feature_set::{FeatureSet, Needs, PictureForm, SetRecord};

/// Part of every key; raise its number when the same pictures would give other features.
const RECIPE: &str = "rootgan features 2";

/// A folder of feature sets, each a file that is named by its key.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    folder: PathBuf,
}

impl FeatureCache {
    /// Takes this folder, which is made when something is stored.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Returns the folder of features in the user's cache; None where there is no place for one.
    pub fn default_folder() -> Option<PathBuf> {
        Cache::of_user().map(|cache| cache.folder(CachePart::Features))
    }

    /// Returns the path at which the features of these pictures lie, if they do.
    pub fn path(&self, content_sha256: &str, detector_sha256: &str, form: &PictureForm, order: &str) -> PathBuf {
        let size = format!("{}x{}", form.channels, form.side);
        let key = [RECIPE, content_sha256, detector_sha256, &size, &form.rule, order].join("\n");
        self.folder.join(format!("{:x}.safetensors", Sha256::digest(key)))
    }

    /// Reads what is stored at a path and judges it by `needs`, which is told the record of the set.
    pub fn find(&self, path: &Path, needs: impl Fn(&SetRecord) -> Needs) -> Found {
        if !path.is_file() {
            return Found::Nothing;
        }
        match FeatureSet::load(path) {
            Ok(set) if set.record.cache_key.as_deref() != key_of(path) => Found::Damaged(format!(
                "'{}' holds features of other pictures or another detector than its name says",
                path.display()
            )),
            Ok(mut set) if set.satisfies(&needs(&set.record)) => {
                set.record.cache_key = None;
                Found::All(Box::new(set))
            }
            Ok(set) => Found::Less(set.holds()),
            Err(error) => Found::Damaged(format!("{error:#}")),
        }
    }

    /// Stores the features of a set of pictures.
    ///
    /// # Errors
    /// The folder cannot be written: the features are computed again the next time.
    pub fn store(&self, path: &Path, set: &mut FeatureSet) -> Result<()> {
        set.record.cache_key = key_of(path).map(str::to_owned);
        let made = std::fs::create_dir_all(&self.folder).map_err(anyhow::Error::from);
        let stored = made.and_then(|()| set.save(path)).with_context(|| {
            format!(
                "features of the real pictures are not kept, and will be computed again: cannot write '{}' (XDG_CACHE_HOME \
                 says where they go, and --cache of rootgan metrics)",
                self.folder.display()
            )
        });
        set.record.cache_key = None;
        stored
    }
}

fn key_of(path: &Path) -> Option<&str> {
    path.file_stem()?.to_str()
}

/// The answer of a cache.
pub enum Found {
    /// A set with everything that is needed.
    All(Box<FeatureSet>),
    /// A set of the same pictures with other contents, which are computed again together with what is needed.
    Less(Needs),
    /// An entry that cannot be used, and why.
    Damaged(String),
    /// No entry.
    Nothing,
}
