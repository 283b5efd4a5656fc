//! Where things are in the work tree, and what cargo says about the workspace.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::failure::Failure;

/// The profile of `Cargo.toml` that the programs under test are built with.
pub(crate) const PROFILE: &str = "testbed";

/// The programs under test: package, binary and the variable that tells the integration tests where it is.
pub(crate) const PROGRAMS: [(&str, &str, &str); 6] = [
    ("towpath-tests", "testbed-axum", "TOWPATH_TESTBED_AXUM"),
    ("towpath-tests", "testbed-actix", "TOWPATH_TESTBED_ACTIX"),
    ("towpath-examples", "chat", "TOWPATH_CHAT"),
    ("towpath-examples", "drain-axum", "TOWPATH_DRAIN_AXUM"),
    ("towpath-examples", "drain-actix", "TOWPATH_DRAIN_ACTIX"),
    ("towpath-examples", "drain-hyper", "TOWPATH_DRAIN_HYPER"),
];

/// The workspace that this program was built in.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    target: PathBuf,
    packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    /// `None`: may be published anywhere; empty: never.
    publish: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

impl Project {
    pub(crate) fn locate() -> Result<Self, Failure> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .ok_or_else(|| Failure::new("xtask has no parent folder"))?
            .to_path_buf();
        let output = Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(&root)
            .output()
            .map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
        if !output.status.success() {
            return Err(Failure::new(String::from_utf8_lossy(&output.stderr)));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)
            .map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
        Ok(Self {
            root,
            target: metadata.target_directory,
            packages: metadata.packages,
        })
    }

    /// The crates that users depend on: those that may be published.
    pub(crate) fn libraries(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| package.publish.is_none())
    }

    /// Cargo's target folder.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// What later runs use again: virtual environments and the like.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// What the fuzz targets are built into, and what they found.
    pub(crate) fn fuzz(&self) -> PathBuf {
        self.target.join("fuzz")
    }

    /// What one run leaves behind: logs and reports.
    pub(crate) fn reports(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// What a person looks at after a run: screenshots.
    pub(crate) fn artefacts(&self) -> PathBuf {
        self.root.join("artefacts")
    }

    /// A program under test, as the step `build` leaves it.
    pub(crate) fn program(&self, binary: &str) -> PathBuf {
        self.target.join(PROFILE).join(binary)
    }
}

/// Makes a folder, and its parents.
pub(crate) fn make_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(Failure::of_path(path))
}

/// Makes a folder that is empty.
pub(crate) fn make_empty_folder(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        fs::remove_dir_all(path).map_err(Failure::of_path(path))?;
    }
    make_folder(path)
}
