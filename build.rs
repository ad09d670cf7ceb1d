//! Links the binary to the libtorch that torch-sys uses, so that it runs with no environment variable set, and compiles
//! the C++ files of `src/tensor/native`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let configured = std::env::var("DEP_TCH_LIBTORCH_LIB")
        .map_err(|_| "torch-sys did not say where libtorch is; run scripts/setup first")?;
    let lib = std::fs::canonicalize(&configured)
        .map_err(|e| format!("no libtorch in '{configured}' ({e}); run scripts/setup first"))?;
    compile_native(&lib.join("../include"));
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
    SOURCES.iter().for_each(|source| println!("cargo:rerun-if-changed={source}"));
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").files(SOURCES).include(include).include(include.join("torch/csrc/api/include"));
    build.define("_GLIBCXX_USE_CXX11_ABI", abi.as_str()).opt_level(2).debug(false);
    // Warnings are off: those of libtorch's own headers cannot be mended here.
    build.warnings(false).flag_if_supported("-w").compile("rootgan_native");
}
