//! Links the binary to the libtorch that torch-sys uses, so that it runs with no environment variable set, and compiles
//! the C++ files of `src/tensor/native`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let configured = std::env::var("DEP_TCH_LIBTORCH_LIB")
        .map_err(|_| "torch-sys did not say where libtorch is; run scripts/setup first")?;
    let lib = std::fs::canonicalize(&configured)
        .map_err(|e| format!("no libtorch in '{configured}' ({e}); run scripts/setup first"))?;
    compile_native(&lib.join("../include"));
    println!("cargo:rustc-env=ROOTGAN_LIBTORCH={}", libtorch_version(&lib.join("../include")));
    println!("cargo:rustc-env=ROOTGAN_COMMIT={}", commit());
    // The path is written as DT_RPATH, which comes before LD_LIBRARY_PATH: users of tch often have another libtorch
    // there.
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{}", lib.display());
    // `cargo install` copies only the program, so libtorch has to stay where it is.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!(
            "cargo:warning=rootgan loads libtorch from '{}' whenever it starts: keep that folder, also after `cargo install`",
            lib.display()
        );
    }
    // Without these two the linker drops the CUDA libraries, which only register themselves, and
    // the program sees no GPU.
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
    println!("cargo:rustc-link-arg=-ltorch");
    Ok(())
}

/// Compiles the C++ files against libtorch's headers, with the options that torch-sys uses.
fn compile_native(include: &std::path::Path) {
    const SOURCES: [&str; 5] = [
        "src/tensor/native/arithmetic.cpp",
        "src/tensor/native/convolution_backward.cpp",
        "src/tensor/native/memory.cpp",
        "src/tensor/native/profile.cpp",
        "src/tensor/native/script_output.cpp",
    ];
    let is_distributed = std::env::var_os("CARGO_FEATURE_DISTRIBUTED").is_some();
    let nccl = if is_distributed { nccl_headers(include) } else { None };
    let mut sources = SOURCES.to_vec();
    sources.extend(is_distributed.then_some("src/tensor/native/world.cpp"));
    sources.extend(nccl.as_ref().map(|_| "src/tensor/native/nccl.cpp"));
    sources.iter().for_each(|source| println!("cargo:rerun-if-changed={source}"));
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").files(sources).include(include).include(include.join("torch/csrc/api/include"));
    // The wheels of PyTorch leave gloo's headers out; where they are there, they come first.
    build.include("src/tensor/native/gloo");
    if let Some(folders) = nccl {
        build.define("ROOTGAN_NCCL", None).includes(folders).include("src/tensor/native");
    }
    build.define("_GLIBCXX_USE_CXX11_ABI", abi.as_str()).opt_level(2).debug(false);
    // Warnings are off: those of libtorch's own headers cannot be mended here.
    build.warnings(false).flag_if_supported("-w").compile("rootgan_native");
}

/// Finds the folders of the headers of NCCL and CUDA, which PyTorch's wheels bring along; None where one is missing or
/// libtorch has no CUDA. Processes then send tensors of GPUs by way of the host.
fn nccl_headers(include: &std::path::Path) -> Option<Vec<std::path::PathBuf>> {
    if !include.join("../lib/libtorch_cuda.so").exists() {
        return None;
    }
    let packages = include.join("../..");
    let toolkit = std::env::var_os("CUDA_HOME").map(|home| std::path::Path::new(&home).join("include"));
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    let of_wheels = ["nvidia/nccl/include", "nvidia/cu13/include", "triton/backends/nvidia/include"];
    let of_system = ["/usr/local/cuda/include", "/usr/include"].map(std::path::PathBuf::from);
    let folders: Vec<_> =
        toolkit.into_iter().chain(of_wheels.map(|folder| packages.join(folder))).chain(of_system).collect();
    let mut needed = Vec::new();
    for header in ["nccl.h", "cuda_runtime.h", "crt/host_config.h", "cublas_v2.h"] {
        let folder = folders.iter().find(|folder| folder.join(header).exists())?;
        if !needed.contains(folder) && folder != std::path::Path::new("/usr/include") {
            needed.push(folder.clone());
        }
    }
    Some(needed)
}

/// Reads libtorch's version from its headers.
fn libtorch_version(include: &std::path::Path) -> String {
    let text = std::fs::read_to_string(include.join("torch/headeronly/version.h")).unwrap_or_default();
    let number = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("#define TORCH_VERSION_{name} ")))?;
        line.split_whitespace().last().map(str::to_owned)
    };
    let parts: Option<Vec<String>> = ["MAJOR", "MINOR", "PATCH"].into_iter().map(number).collect();
    parts.map_or_else(|| "of an unknown version".to_owned(), |parts| parts.join("."))
}

/// Asks git for the commit of the sources, for programs that are used: in development every commit would compile everything
/// anew. The sources of a package have none.
fn commit() -> String {
    if std::env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return "in development".to_owned();
    }
    if std::path::Path::new(".git/logs/HEAD").is_file() {
        println!("cargo:rerun-if-changed=.git/logs/HEAD");
    }
    let git = std::process::Command::new("git").args(["rev-parse", "--short=10", "HEAD"]).output();
    let answer =
        git.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    answer.map_or_else(|| "no commit known".to_owned(), |answer| format!("commit {}", answer.trim()))
}
