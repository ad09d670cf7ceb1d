//! Each command says where it writes before it loads a network; whatever the network's code does, other files stay as they
//! are.

use std::path::Path;

use tch::Device;

use crate::metrics::FeatureCache;
use crate::model::safety::are_files_trusted;
use crate::source::scratch_folders;
use crate::system::confine::confine_writes;
use crate::tensor::device::synchronize;

/// Bounds writing to `places` for the rest of the program, unless `--trust` was given. A kernel without Landlock is no
/// error: the check of every file before it is loaded does not depend on it.
pub fn write_only_to(places: &[&Path], device: Device) {
    if are_files_trusted() {
        return;
    }
    // CUDA may have to make its devices first, with the rights that confined programs lose.
    synchronize(device);
    let scratch = scratch_folders();
    let places: Vec<&Path> = places.iter().copied().chain(scratch.iter().map(|folder| folder.as_path())).collect();
    confine_writes(&places, device.is_cuda());
}

/// Bounds writing to `places` and to the folder of features, which is `cache` or the usual place.
pub fn write_only_to_and_cache(places: &[&Path], cache: Option<&Path>, device: Device) {
    let cache = cache.map(Path::to_owned).or_else(FeatureCache::default_folder);
    // The cache folder is made first; otherwise its parent would have to be writable. The cache itself reports what is
    // wrong with it.
    let cache = cache.filter(|folder| std::fs::create_dir_all(folder).is_ok());
    let places: Vec<&Path> = places.iter().copied().chain(cache.as_deref()).collect();
    write_only_to(&places, device);
}
