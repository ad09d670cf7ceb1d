//! Leaves out of a report where somebody keeps files: of every path of the options its last part stays.

use std::path::Path;

use serde_json::{Map, Value};

use crate::config::Options;

/// Shortens the paths of one run.
pub struct Shortener {
    options: Map<String, Value>,
    /// The folders whose names are left out, longest first, each with a slash at its end.
    folders: Vec<String>,
}

impl Shortener {
    /// Takes the paths from a run's options and from its own folder.
    pub fn new(options: &Map<String, Value>, run: &Path) -> Self {
        let keys = Options::path_keys();
        let is_path = |name: &str| keys.contains(&name) || name == "from";
        let paths = options.iter().filter(|(name, _)| is_path(name)).filter_map(|(_, value)| value.as_str());
        let above = |path: &Path| path.parent().map(|folder| folder.to_string_lossy().into_owned());
        let mut folders: Vec<String> = paths.filter_map(|path| above(Path::new(path))).chain(above(run)).collect();
        folders.extend(options.get("outdir").and_then(Value::as_str).map(str::to_owned));
        folders.retain(|folder| !folder.is_empty() && folder != "/" && folder != ".");
        folders.iter_mut().for_each(|folder| folder.push('/'));
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
        Self { options: options.clone(), folders }
    }

    /// Returns a text without the folders.
    pub fn text(&self, text: &str) -> String {
        self.folders.iter().fold(text.to_owned(), |text, folder| text.replace(folder, ""))
    }

    /// Returns the options without the folders.
    pub fn options(&self) -> Value {
        let shorten = |value: &Value| value.as_str().map_or_else(|| value.clone(), |text| Value::from(self.text(text)));
        self.options.iter().map(|(name, value)| (name.clone(), shorten(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_paths_the_last_part_stays() {
        let options = json!({ "data": "/home/ann/pictures/cats", "outdir": "/home/ann/runs", "detector": "a.pt", "loss": "rooted" });
        let shortener = Shortener::new(options.as_object().unwrap(), "/home/ann/runs/00000-cats".as_ref());
        let expected = json!({ "data": "cats", "outdir": "runs", "detector": "a.pt", "loss": "rooted" });
        assert_eq!(shortener.options(), expected);
        let line = "error: cannot read '/home/ann/pictures/cats/1.png'; run directory: /home/ann/runs/00000-cats";
        assert_eq!(shortener.text(line), "error: cannot read 'cats/1.png'; run directory: 00000-cats");
    }
}
