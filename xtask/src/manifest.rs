//! Manifests of the workspace, read as far as the chores ask.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

/// A package's manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its path from the root of the repository.
    pub path: String,
    table: Table,
}

impl Manifest {
    /// Reads `path`, which is relative to `root`.
    ///
    /// # Errors
    ///
    /// When it is not there or is not TOML.
    pub fn read(root: &Path, path: &str) -> Result<Self> {
        let text =
            fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        Self::parse(path, &text)
    }

    /// Reads the text of a manifest.
    ///
    /// # Errors
    ///
    /// When it is not TOML.
    pub fn parse(path: &str, text: &str) -> Result<Self> {
        let table = text.parse().with_context(|| format!("{path} is not TOML"))?;
        Ok(Self { path: path.to_owned(), table })
    }

    /// The package's name.
    pub fn package(&self) -> Option<&str> {
        self.table.get("package")?.get("name")?.as_str()
    }

    /// What it depends on to be built: not what its tests add.
    pub fn dependencies(&self) -> Vec<&str> {
        self.names(&["dependencies", "build-dependencies"])
    }

    /// What its tests and benchmarks add.
    pub fn dev_dependencies(&self) -> Vec<&str> {
        self.names(&["dev-dependencies"])
    }

    /// The names of its binaries that are written down, in their order.
    pub fn binaries(&self) -> Vec<&str> {
        self.named("bin")
    }

    /// The names of its benchmarks that are written down, in their order.
    pub fn benches(&self) -> Vec<&str> {
        self.named("bench")
    }

    /// Whether it takes the lints of the workspace.
    pub fn takes_workspace_lints(&self) -> bool {
        let lints = self.table.get("lints").and_then(|lints| lints.get("workspace"));
        lints == Some(&Value::Boolean(true))
    }

    fn names(&self, sections: &[&str]) -> Vec<&str> {
        let tables = sections.iter().filter_map(|section| self.table.get(*section)?.as_table());
        tables.flat_map(|table| table.keys().map(String::as_str)).collect()
    }

    fn named(&self, section: &str) -> Vec<&str> {
        let list = self.table.get(section).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|entry| entry.get("name")?.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_tells_its_dependencies_apart() {
        let manifest = Manifest::parse(
            "crates/imap/Cargo.toml",
            "[package]\nname = \"imap\"\n[lints]\nworkspace = true\n[dependencies]\n\
             mail.workspace = true\nstore = { path = \"../store\" }\n[dev-dependencies]\n\
             proptest = \"1\"\n[[bin]]\nname = \"one\"\n[[bin]]\nname = \"two\"\n",
        )
        .unwrap();
        assert_eq!(manifest.package(), Some("imap"));
        assert_eq!(manifest.dependencies(), ["mail", "store"]);
        assert_eq!(manifest.dev_dependencies(), ["proptest"]);
        assert_eq!(manifest.binaries(), ["one", "two"]);
        assert_eq!(manifest.benches(), [""; 0]);
        assert!(manifest.takes_workspace_lints());
        assert!(Manifest::parse("x", "[package").is_err());
    }
}
