//! The prefix cache's folder: what it held stays for the next process, one session file a prompt.

use super::context::Context;
use super::session_file;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::CacheOptions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const EXTENSION: &str = "prefix";

/// Prompts in files, not yet read.
pub(super) struct PrefixStore {
    folder: PathBuf,
    fingerprint: String,
    options: CacheOptions,
    limit: u64,
    stored: Vec<Stored>,
}

struct Stored {
    path: PathBuf,
    ids: Vec<i32>,
}

impl PrefixStore {
    /// Looks into a folder, which is made if need be. Files of other models stay unread; broken ones are
    /// passed over.
    pub fn open(
        folder: &Path,
        model: &dyn Model,
        options: CacheOptions,
        fingerprint: &str,
        limit: u64,
    ) -> Result<Self> {
        let failed = |error| Error::Io(format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let files = std::fs::read_dir(folder).map_err(failed)?.filter_map(|entry| Some(entry.ok()?.path()));
        let ours = files.filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
        let stored = ours.filter_map(|path| {
            let ids = session_file::peek(&path, model, options, fingerprint).ok()??;
            Some(Stored { path, ids })
        });
        let stored = stored.collect();
        Ok(PrefixStore { folder: folder.into(), fingerprint: fingerprint.into(), options, limit, stored })
    }

    /// The tokens of each file.
    pub fn ids(&self) -> impl Iterator<Item = &[i32]> {
        self.stored.iter().map(|stored| &stored.ids[..])
    }

    /// Reads one of those; it is not listed any more.
    pub fn take(&mut self, index: usize, model: &dyn Model) -> Result<Context> {
        let stored = self.stored.remove(index);
        let mut context = session_file::read(&stored.path, model, self.options, &self.fingerprint)?;
        context.aligned = context.seen;
        Ok(context)
    }

    /// Writes a context, unless there is such a file.
    pub fn put(&self, context: &Context) -> Result<()> {
        let mut hasher = DefaultHasher::new();
        (&self.fingerprint, self.options.bits, &context.ids).hash(&mut hasher);
        let path = self.folder.join(format!("{:016x}.{EXTENSION}", hasher.finish()));
        match path.exists() {
            true => Ok(()),
            false => session_file::write(&path, context, &self.fingerprint),
        }
    }

    /// Deletes the oldest files until all together are within the limit.
    pub fn trim(&self) -> Result<()> {
        let failed = |error| Error::Io(format!("{}: {error}", self.folder.display()));
        let mut files: Vec<(SystemTime, u64, PathBuf)> = vec![];
        for entry in std::fs::read_dir(&self.folder).map_err(failed)?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION)
                && let Ok(about) = entry.metadata()
            {
                files.push((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len(), path));
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, length, path) in files {
            if bytes <= self.limit {
                break;
            }
            // Another process may have been first.
            let _ = std::fs::remove_file(path);
            bytes -= length;
        }
        Ok(())
    }
}
