//! Fixtures of the integration tests: small networks made by the Python scripts, pictures, and the
//! program itself.
// Every test file compiles its own copy and uses a part of it.
#![allow(dead_code)]

pub mod command;
pub mod runs;
pub mod scripted;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The smallest pair there is: 16x16, random weights, z and w of width 32.
pub fn pair16() -> (PathBuf, PathBuf) {
    let sizes = "--resolution 16 --z-dim 32 --w-dim 32 --mapping-layers 2 --channel-base 256 --channel-max 32";
    pair("pair16", &sizes.split(' ').collect::<Vec<_>>(), None)
}

/// The same with labels for three classes.
pub fn pair16_labelled() -> (PathBuf, PathBuf) {
    let sizes =
        "--resolution 16 --z-dim 32 --w-dim 32 --mapping-layers 2 --channel-base 256 --channel-max 32 --c-dim 3";
    pair("pair16-labelled", &sizes.split(' ').collect::<Vec<_>>(), None)
}

/// The same in grey.
pub fn pair16_grey() -> (PathBuf, PathBuf) {
    let sizes =
        "--resolution 16 --z-dim 32 --w-dim 32 --mapping-layers 2 --channel-base 256 --channel-max 32 --img-channels 1";
    pair("pair16-grey", &sizes.split(' ').collect::<Vec<_>>(), None)
}

/// The pair whose weights are in a golden file, such as `net_uncond_r32.safetensors`.
pub fn pair_from_golden(name: &str) -> (PathBuf, PathBuf) {
    let file = golden_dir().join(name);
    let stem = file.file_stem().expect("a file has a name").to_string_lossy();
    pair(&stem, &[], Some(&file))
}

/// The same of a file that is shipped, wherever `GOLDEN_DIR` points.
pub fn shipped_pair(name: &str) -> (PathBuf, PathBuf) {
    let file = root().join("tests/golden").join(name);
    pair(name, &[], Some(&file))
}

/// A module whose pictures are of one colour each: the first three numbers of z.
pub const Z_AS_COLOUR: &str = "class G(torch.nn.Module):\n    \
                                   def forward(self, z):\n        \
                                       return z[:, :3].reshape(-1, 3, 1, 1).repeat(1, 1, 16, 16)\n\
                               net = G()\n";

/// Scripts the module `net` that this Python code makes, into a file in `folder`.
pub fn z_only_generator(folder: &Path, code: &str) -> PathBuf {
    let generator = folder.join("z.pt");
    scripted(&generator, code);
    generator
}

/// The same into this file.
pub fn scripted(path: &Path, code: &str) {
    let script = path.with_extension("py");
    let code = format!("import sys, torch\n{code}torch.jit.script(net).save(sys.argv[1])\n");
    std::fs::write(&script, code).expect("the folder can be written");
    python(&[text(&script), text(path)]);
}

/// A detector in `folder` whose features are mean colours. It fails where `condition`, Python about the pictures `x`
/// [N, 3, R, R] from 0 to 1, is true.
pub fn detector_that_fails(folder: &Path, condition: &str) -> PathBuf {
    const CODE: &str = "\
class Detector(torch.nn.Module):
    def forward(self, img: torch.Tensor, return_features: bool = False):
        x = img.to(torch.float32) / 255
        if CONDITION:
            raise ValueError('this detector is made to fail')
        return torch.cat([x.mean(dim=[2, 3]), x[:, :, :8].mean(dim=[2, 3])], dim=1)
net = Detector()
";
    let path = folder.join("detector.pt");
    scripted(&path, &CODE.replace("CONDITION", condition));
    path
}

/// Where the golden vectors lie: `GOLDEN_DIR`, or `tests/golden`.
pub fn golden_dir() -> PathBuf {
    std::env::var_os("GOLDEN_DIR").map_or_else(|| root().join("tests/golden"), PathBuf::from)
}

/// The program on one thread: tests run side by side, and spinning threads slow each other down. It keeps what it keeps among
/// the test files.
pub fn rootgan() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_rootgan"));
    command.env("OMP_NUM_THREADS", "1");
    command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    command
}

/// Settings of libtorch for a test that calls the library itself; call it in each thread.
pub fn configure_torch() {
    rootgan::tensor::device::configure_runtime();
    tch::set_num_threads(1);
}

/// libtorch's generator of random numbers belongs to the whole process: tests that draw from it take turns.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A trainer of these networks, without labels.
pub fn trainer(networks: rootgan::train::Networks, options: rootgan::config::Options) -> rootgan::train::Trainer {
    let facts = rootgan::config::NetworkFacts::from_pair(&networks.g, &networks.d);
    let (settings, _) = rootgan::config::train_settings(&options, facts).expect("the options fit the networks");
    rootgan::train::Trainer::new(networks, settings, None)
}

/// Writes `n` pictures of `size` x `size` pixels, no two alike: a slope of two colours and a disc.
pub fn picture_folder(folder: &Path, n: usize, size: u32) {
    std::fs::create_dir_all(folder).expect("the folder can be made");
    for index in 0..n {
        let hue = (index * 83 % 256) as u8;
        let centre = (size as i64 * (index as i64 % 5 + 1) / 6, size as i64 * (index as i64 % 3 + 1) / 4);
        let radius = size as i64 / 5 + (index % 4) as i64;
        let picture = image::RgbImage::from_fn(size, size, |x, y| {
            let (dx, dy) = (i64::from(x) - centre.0, i64::from(y) - centre.1);
            match dx * dx + dy * dy <= radius * radius {
                true => image::Rgb([hue, 255 - hue, 128]),
                false => image::Rgb([(x * 255 / size) as u8, (y * 255 / size) as u8, hue]),
            }
        });
        picture.save(folder.join(format!("picture{index:03}.png"))).expect("the picture can be written");
    }
}

/// Runs Python in the project's environment and returns what it printed.
pub fn python(arguments: &[&str]) -> String {
    let python = root().join(".venv/bin/python");
    assert!(python.exists(), "'{}' is missing; run scripts/setup", python.display());
    let output = Command::new(python)
        .args(arguments)
        .current_dir(root())
        .env("OMP_NUM_THREADS", "1")
        .output()
        .expect("Python can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "python {arguments:?} failed: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A pair of 16x16 that is wide enough for the fast convolution (`python/rootgan/networks/winograd.py`).
pub fn wide_pair16() -> (PathBuf, PathBuf) {
    let sizes = "--resolution 16 --z-dim 16 --w-dim 16 --mapping-layers 1 --channel-base 2048 --channel-max 128";
    pair("wide16", &sizes.split(' ').collect::<Vec<_>>(), None)
}

/// A pair of `rootgan new`, made once per content of the scripts, arguments and weights.
///
/// Other test processes may be doing the same: each builds in a folder of its own and renames it;
/// whoever comes second finds the place taken by an equal pair.
fn pair(name: &str, arguments: &[&str], weights: Option<&Path>) -> (PathBuf, PathBuf) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let made = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = made.join(format!("{name}-{:016x}", key(arguments, weights)));
    if !folder.exists() {
        std::fs::create_dir_all(made).expect("the folder for test files can be made");
        let scratch = tempfile::tempdir_in(made).expect("the folder for test files can be written");
        let outdir = scratch.path().join("pair");
        let mut all = vec!["python/rootgan", "new", "--outdir", text(&outdir)];
        all.extend(arguments);
        all.extend(weights.iter().flat_map(|file| ["--from-safetensors", text(file)]));
        python(&all);
        let renamed = std::fs::rename(&outdir, &folder);
        assert!(renamed.is_ok() || folder.exists(), "cannot keep '{}': {renamed:?}", folder.display());
    }
    (folder.join("generator.pt"), folder.join("discriminator.pt"))
}

fn key(arguments: &[&str], weights: Option<&Path>) -> u64 {
    let package = root().join("python/rootgan");
    let folders = ["networks", "checkpoints"].map(|name| std::fs::read_dir(package.join(name)).expect("it is there"));
    let mut files: Vec<PathBuf> = folders.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "py"));
    files.sort();
    // What else writes a pair, and the versions of the packages that it is written with.
    files.extend(["make_pair.py", "whole_files.py", "network_folder.py"].map(|name| package.join(name)));
    files.push(root().join("scripts/requirements.txt"));
    files.extend(weights.map(Path::to_path_buf));
    let mut hasher = DefaultHasher::new();
    arguments.hash(&mut hasher);
    for path in files {
        let content = std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read '{}': {error}", path.display()));
        content.hash(&mut hasher);
    }
    hasher.finish()
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test files have plain names")
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A critic of -110: the rooted loss with k = 2 and without pairs has a slope there whose square overflows, so every step of G is left
/// out.
pub fn far_off_pair(place: &Path) -> (PathBuf, PathBuf) {
    let (generator, discriminator) = pair16();
    let (script, far) = (place.join("far.py"), place.join("far.pt"));
    let code = "import sys, torch\n\
                D = torch.jit.load(sys.argv[1])\n\
                with torch.no_grad():\n    \
                    D.b4.out.bias.fill_(-110.0)\n\
                D.save(sys.argv[2])\n";
    std::fs::write(&script, code).expect("the folder can be written");
    python(&[text(&script), text(&discriminator), text(&far)]);
    (generator, far)
}
