//! Downloading a model from the hub into the Hugging Face cache, by crate `hf-hub`.
//!
//! Every file is whole before it appears in the snapshot, and `refs/REVISION` is written when all are
//! there. What arrived of a file before the connection broke, or before a cancel, is gone on from.

use super::hub::{self, HubCache, ModelId};
use super::{Cancel, LoadOptions};
use crate::error::{Error, Result};
use crate::models::{self, Config};
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long a caller sleeps between looks at its cancel handle.
const CANCEL_POLL: Duration = Duration::from_millis(20);

/// Progress is told this often, in bytes.
const STEP: u64 = 1 << 20;

/// What the hub says of a model.
#[derive(Deserialize)]
struct Listing {
    /// The commit.
    sha: String,
    siblings: Vec<Remote>,
}

#[derive(Deserialize, Clone)]
struct Remote {
    rfilename: String,
    size: u64,
}

enum Event {
    Progress(u64, u64),
    End(Result<PathBuf>),
}

/// Downloads what a model needs and gives its folder. The calling thread is told of progress; it
/// returns at once when it is cancelled, even where the network hangs.
pub(super) fn download(
    cache: &HubCache,
    id: &ModelId,
    options: &LoadOptions,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<PathBuf> {
    let (events, received) = channel();
    // However the caller leaves, the other thread stops.
    let stop = StopOnDrop(Arc::new(Cancel::default()));
    let mut work = Download {
        cache: cache.clone(),
        id: id.clone(),
        events: events.clone(),
        stop: stop.0.clone(),
        done: 0,
        total: 0,
    };
    let run = move || {
        let end = catch_unwind(AssertUnwindSafe(|| work.run()));
        let end = end.unwrap_or_else(|payload| match payload.is::<Stopped>() {
            true => Err(Error::Cancelled),
            false => Err(Error::from_panic(&*payload)),
        });
        let _ = events.send(Event::End(end));
    };
    let thread = std::thread::Builder::new().name("mlxrt download".into()).spawn(run);
    thread.map_err(|error| Error::Internal(format!("no thread to download with: {error}")))?;
    let mut most = 0;
    loop {
        if options.cancel.as_ref().is_some_and(|cancel| cancel.is_triggered()) {
            return Err(Error::Cancelled);
        }
        match received.recv_timeout(CANCEL_POLL) {
            Ok(Event::Progress(done, total)) => {
                most = done.max(most); // a file that has to start anew takes nothing back
                if !progress(most, total) {
                    return Err(Error::Cancelled);
                }
            }
            Ok(Event::End(end)) => return end,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Internal("the download thread ended without a word".into()));
            }
        }
    }
}

struct StopOnDrop(Arc<Cancel>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.trigger();
    }
}

/// hf-hub's progress cannot say "stop", so unwinding with this does; its locks are released by it.
struct Stopped;

/// A download, on its own thread.
struct Download {
    cache: HubCache,
    id: ModelId,
    events: Sender<Event>,
    stop: Arc<Cancel>,
    /// Bytes of the files that are whole.
    done: u64,
    /// Bytes of all.
    total: u64,
}

impl Download {
    fn run(&mut self) -> Result<PathBuf> {
        let api = self.api().map_err(|error| self.failed(error))?;
        let listing = self.list(&api)?;
        let files = needed(&listing.siblings);
        if files.is_empty() {
            return Err(Error::NotFound(format!("{}: has no .safetensors files on the hub", self.id.name)));
        }
        let at_commit = Repo::with_revision(self.id.name.clone(), RepoType::Model, listing.sha.clone());
        let repository = api.repo(at_commit.clone());
        let snapshot = self.cache.snapshot(&self.id.name, &listing.sha);
        let is_there = |file: &&Remote| size(&snapshot.join(&file.rfilename)) == Some(file.size);
        self.total = files.iter().map(|file| file.size).sum();
        self.done = files.iter().filter(is_there).map(|file| file.size).sum();
        self.tell(0);
        for file in &files {
            let path = snapshot.join(&file.rfilename);
            if !is_there(&file) {
                self.get(&api, &repository, file, &path)?;
                self.done += file.size;
                self.tell(0);
            }
            if file.rfilename == "config.json" {
                // An unknown architecture is told before gigabytes are on their way.
                models::find(&Config::read(&path)?)?;
            }
        }
        self.write_reference(&at_commit, &listing.sha)?;
        Ok(snapshot)
    }

    fn api(&self) -> std::result::Result<Api, ApiError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut api =
            ApiBuilder::from_cache(Cache::new(self.cache.root().to_path_buf())).with_progress(false);
        if let Some(endpoint) = variable("HF_ENDPOINT") {
            api = api.with_endpoint(endpoint.trim_end_matches('/').to_string());
        }
        if let Some(token) = variable("HF_TOKEN") {
            api = api.with_token(Some(token));
        }
        api.build()
    }

    fn list(&self, api: &Api) -> Result<Listing> {
        let id = &self.id;
        let repository = api.repo(Repo::with_revision(id.name.clone(), RepoType::Model, id.revision.clone()));
        let answer = repository.info_request().query("blobs", "true").call();
        let listing = answer.and_then(|mut answer| answer.body_mut().read_json::<Listing>());
        let listing = listing.map_err(|error| self.failed(error))?;
        // It becomes a folder's name.
        if listing.sha.is_empty() || !listing.sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(self.failed(format!("the hub's commit is \"{}\"", listing.sha)));
        }
        Ok(listing)
    }

    /// Downloads one file, or what is missing of it.
    fn get(&self, api: &Api, repository: &ApiRepo, file: &Remote, path: &Path) -> Result<()> {
        let name = &file.rfilename;
        let download = || {
            repository
                .download_with_progress(name, Counter { download: self, size: file.size, now: 0, told: 0 })
        };
        // Made anew if it is there with another size.
        let _ = std::fs::remove_file(path);
        let mut got = download();
        if got.is_err() && self.drop_full_part(api, repository, file) {
            got = download();
        }
        got.map_err(|error| self.failed(format!("{name}: {error}")))?;
        let arrived = size(path);
        if arrived != Some(file.size) {
            // The blob behind the link: what is broken must not be found by anyone.
            let _ = std::fs::canonicalize(path).and_then(std::fs::remove_file);
            let _ = std::fs::remove_file(path);
            let what = format!("{name}: {} bytes came, {} expected", arrived.unwrap_or(0), file.size);
            return Err(self.failed(what));
        }
        Ok(())
    }

    /// A part that is as long as the file, because the process ended just then, can't be gone on from.
    fn drop_full_part(&self, api: &Api, repository: &ApiRepo, file: &Remote) -> bool {
        let Ok(metadata) = api.metadata(&repository.url(&file.rfilename)) else { return false };
        let cache = Cache::new(self.cache.root().to_path_buf()).model(self.id.name.clone());
        let part = cache.blob_path(metadata.etag()).with_extension("part");
        size(&part).is_some_and(|bytes| bytes >= file.size) && std::fs::remove_file(part).is_ok()
    }

    /// Says which commit the revision stands for. hf-hub has written one for the commit itself.
    fn write_reference(&self, at_commit: &Repo, commit: &str) -> Result<()> {
        if self.id.revision == commit {
            return Ok(());
        }
        let cache = Cache::new(self.cache.root().to_path_buf());
        let asked = Repo::with_revision(self.id.name.clone(), RepoType::Model, self.id.revision.clone());
        cache.repo(asked).create_ref(commit).map_err(|error| self.failed(error))?;
        let own = self.cache.root().join(at_commit.folder_name()).join("refs").join(commit);
        let _ = std::fs::remove_file(own);
        Ok(())
    }

    fn tell(&self, of_this_file: u64) {
        let _ = self.events.send(Event::Progress(self.done + of_this_file, self.total));
    }

    fn failed(&self, error: impl std::fmt::Display) -> Error {
        Error::NotFound(format!("downloading {}: {error}", self.id.name))
    }
}

/// Counts the bytes of one file.
struct Counter<'a> {
    download: &'a Download,
    size: u64,
    now: u64,
    told: u64,
}

impl hf_hub::api::Progress for Counter<'_> {
    fn init(&mut self, _: usize, _: &str) {
        (self.now, self.told) = (0, 0);
    }

    fn update(&mut self, bytes: usize) {
        if self.download.stop.is_triggered() {
            resume_unwind(Box::new(Stopped));
        }
        self.now += bytes as u64;
        if self.now - self.told >= STEP {
            self.told = self.now;
            self.download.tell(self.now.min(self.size));
        }
    }

    fn finish(&mut self) {}
}

/// The files that loading reads, config.json first and weights last. Those of other formats and of
/// subfolders are left where they are.
fn needed(all: &[Remote]) -> Vec<Remote> {
    let plain = |name: &str| {
        hub::is_file_name(name)
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let is_weight = |name: &str| name.ends_with(".safetensors");
    let is_small =
        |name: &str| name.ends_with(".json") || name.ends_with(".jinja") || name == "tokenizer.model";
    let files = || all.iter().filter(|file| plain(&file.rfilename));
    let mut weights: Vec<_> = files().filter(|file| is_weight(&file.rfilename)).cloned().collect();
    // As checkpoint::files reads them: some repositories hold the same weights twice.
    if weights.iter().any(|file| file.rfilename.starts_with("model")) {
        weights.retain(|file| file.rfilename.starts_with("model"));
    }
    if weights.is_empty() {
        return weights;
    }
    let mut needed: Vec<_> = files().filter(|file| is_small(&file.rfilename)).cloned().collect();
    needed.sort_by_key(|file| file.rfilename != "config.json");
    needed.extend(weights);
    needed
}

fn size(file: &Path) -> Option<u64> {
    std::fs::metadata(file).ok().filter(|metadata| metadata.is_file()).map(|metadata| metadata.len())
}
