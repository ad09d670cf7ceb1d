//! Links the binary to libtorch so that it runs with no environment variable set.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let configured = std::env::var("DEP_TCH_LIBTORCH_LIB")
        .map_err(|_| "torch-sys did not say where libtorch is; run scripts/setup first")?;
    let lib = std::fs::canonicalize(&configured)
        .map_err(|e| format!("no libtorch in '{configured}' ({e}); run scripts/setup first"))?;
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    // Without these two the linker drops the CUDA libraries, which only register themselves, and
    // the program sees no GPU.
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
    println!("cargo:rustc-link-arg=-ltorch");
    Ok(())
}
