//! Finds what belongs to the program beside its own file: the Python package and an interpreter for it, configurations and
//! the default pair. They lie in the package that the program was installed with, or in the clone that it was built in.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, anyhow, ensure};
use walkdir::WalkDir;

/// Names the interpreter to use; the launcher of an installed package sets it to its own.
const INTERPRETER: &str = "ROOTGAN_PYTHON";
/// The clone that the program was built in.
const CLONE: &str = env!("CARGO_MANIFEST_DIR");

/// The places of the program's own files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The folder of the Python package.
    package: PathBuf,
    /// The folder with `configs` and `weights`.
    assets: PathBuf,
    /// Interpreters to try, the best one first.
    interpreters: Vec<PathBuf>,
    is_clone: bool,
}

impl Installation {
    /// Finds the installation from the place of the running program.
    pub fn find() -> Self {
        let program = std::env::current_exe().and_then(std::fs::canonicalize).unwrap_or_default();
        let named = std::env::var_os(INTERPRETER).map(PathBuf::from);
        Self::of_program(&program, named)
    }

    fn of_program(program: &Path, named: Option<PathBuf>) -> Self {
        // An installed program is `rootgan/bin/rootgan` in the package `rootgan`.
        if let Some(package) = program.ancestors().nth(2).filter(|folder| folder.join("__main__.py").is_file()) {
            // The package lies in ENVIRONMENT/lib/python3.N/site-packages.
            let around = package.ancestors().nth(4).map(|environment| environment.join("bin/python3"));
            return Self {
                package: package.to_owned(),
                assets: package.join("assets"),
                interpreters: named.into_iter().chain(around).collect(),
                is_clone: false,
            };
        }
        let clone = Path::new(CLONE);
        Self {
            package: clone.join("python/rootgan"),
            assets: clone.to_owned(),
            interpreters: named.into_iter().chain([clone.join(".venv/bin/python")]).collect(),
            is_clone: true,
        }
    }

    /// Returns the path of a configuration or network that comes with the program, as in `weights/generator.pt`.
    ///
    /// # Errors
    /// The file is not there: the clone was moved or deleted after the program was built.
    pub fn asset(&self, name: &str) -> Result<PathBuf> {
        let path = self.assets.join(name);
        ensure!(path.is_file(), "cannot find '{}'; {}", path.display(), self.remedy());
        Ok(path)
    }

    /// Returns a command that runs one of the package's commands, as in `import`, without arguments yet.
    ///
    /// # Errors
    /// The package or an interpreter is missing.
    pub fn python(&self, command: &str) -> Result<Command> {
        let cannot = || format!("cannot {command} without rootgan's Python package");
        ensure!(
            self.package.join("__main__.py").is_file(),
            "{}: it is not in '{}'; {}",
            cannot(),
            self.package.display(),
            self.remedy()
        );
        let interpreter = self.interpreters.iter().find(|path| path.is_file()).ok_or_else(|| {
            let remedy = match self.is_clone {
                true => format!("run scripts/setup in '{CLONE}'"),
                false => "install rootgan again".to_owned(),
            };
            anyhow!("{}: no Python is there to run it; {remedy}, or name one that has torch in {INTERPRETER}", cannot())
        })?;
        let mut python = Command::new(interpreter);
        // Other settings and packages must not reach into this Python. A fixed hash seed makes it write sets in the
        // same order.
        python
            .env_remove("PYTHONPATH")
            .env_remove("PYTHONHOME")
            .env("PYTHONNOUSERSITE", "1")
            .env("PYTHONHASHSEED", "0");
        python.arg("-s").arg(&self.package).arg(command);
        Ok(python)
    }

    /// Lists the source files of the package, in a fixed order.
    ///
    /// # Errors
    /// The package is missing.
    pub fn python_sources(&self) -> Result<Vec<PathBuf>> {
        let entries = WalkDir::new(&self.package).sort_by_file_name().into_iter().filter_map(Result::ok);
        let sources: Vec<PathBuf> =
            entries.map(|entry| entry.into_path()).filter(|path| path.extension().is_some_and(|e| e == "py")).collect();
        ensure!(
            !sources.is_empty(),
            "cannot find rootgan's Python package in '{}'; {}",
            self.package.display(),
            self.remedy()
        );
        Ok(sources)
    }

    fn remedy(&self) -> String {
        match self.is_clone {
            true => {
                format!("the program needs the clone that it was built in, '{CLONE}': bring it back or build it anew")
            }
            false => "install rootgan again".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_package_is_found_from_the_program_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("env/lib/python3.12/site-packages/rootgan");
        std::fs::create_dir_all(package.join("bin")).unwrap();
        let program = package.join("bin/rootgan");
        assert!(Installation::of_program(&program, None).is_clone, "without __main__.py it is no package");

        std::fs::write(package.join("__main__.py"), "").unwrap();
        std::fs::create_dir_all(folder.path().join("env/bin")).unwrap();
        let found = Installation::of_program(&program, None);
        assert_eq!(found.package, package);
        let message = found.python("import").unwrap_err().to_string();
        assert!(message.contains("cannot import without") && message.contains("install rootgan again"), "{message}");
        std::fs::write(folder.path().join("env/bin/python3"), "").unwrap();
        assert_eq!(found.python("import").unwrap().get_program(), folder.path().join("env/bin/python3"));

        let named = folder.path().join("named");
        std::fs::write(&named, "").unwrap();
        let found = Installation::of_program(&program, Some(named.clone()));
        assert_eq!(found.python("import").unwrap().get_program(), named);
        assert!(found.asset("weights/generator.pt").unwrap_err().to_string().contains("assets/weights/generator.pt'"));
    }

    #[test]
    fn the_clone_has_the_default_pair() {
        let found = Installation::of_program(Path::new("/usr/bin/rootgan"), None);
        assert!(found.asset("weights/generator.pt").is_ok() && found.asset("configs/demo.json").is_ok());
        assert!(found.asset("weights/none.pt").unwrap_err().to_string().contains("the clone that it was built in"));
    }
}
