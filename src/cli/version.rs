//! The version of the program, for `--version` and for reports.

/// The program's version with the commit it was built from, and libtorch's.
pub const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("ROOTGAN_COMMIT"), "), libtorch ", env!("ROOTGAN_LIBTORCH"));
