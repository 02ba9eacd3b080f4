//! A workspace in a temporary directory, written from a text with `//- path` headers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

pub struct Project {
    directory: TempDir,
}

impl Project {
    /// `//- path` begins a file; what follows, up to the next header, is its text.
    pub fn new(files: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let project = Self { directory };
        let mut current: Option<(String, String)> = None;
        for line in files.split_inclusive('\n') {
            if let Some(path) = line.strip_prefix("//- ") {
                if let Some((path, text)) = current.take() {
                    project.write(&path, &text);
                }
                current = Some((path.trim().to_string(), String::new()));
            } else if let Some((_, text)) = &mut current {
                text.push_str(line);
            }
        }
        if let Some((path, text)) = current {
            project.write(&path, &text);
        }
        project
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a written file");
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub fn uri(&self, path: &str) -> String {
        format!("file://{}", self.path(path).display())
    }
}
