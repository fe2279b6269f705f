//! Downloading a model from the hub into the Hugging Face cache, laid out as `huggingface_hub` does it.
//!
//! A file's contents are a blob, called by the checksum that the hub lists. It gets that name when it is
//! whole and matches, then a link in the snapshot leads to it, and `refs/REVISION` is written when all
//! files are there. What arrived before the connection broke, or before a cancel, is gone on from.

use super::hub::{self, HubCache, ModelId};
use super::{LoadOptions, chat, checkpoint};
use crate::error::{Error, Result, without_panic};
use crate::models::{self, Config};
use ring::digest::{self, Context};
use serde::Deserialize;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

/// How long a caller sleeps between looks at its cancel handle.
const CANCEL_POLL: Duration = Duration::from_millis(20);

/// How long to sleep between looks at a file that another process is downloading.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// How long the hub may be silent, if `HF_HUB_DOWNLOAD_TIMEOUT` does not say how many seconds.
const SILENCE: Duration = Duration::from_secs(30);

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
    /// Git's sha1 of the blob, which is not that of the contents where there is `lfs`.
    #[serde(rename = "blobId")]
    blob_id: String,
    lfs: Option<Lfs>,
}

#[derive(Deserialize, Clone)]
struct Lfs {
    sha256: String,
}

impl Remote {
    /// What the blob is called in the cache.
    fn blob(&self) -> &str {
        self.lfs.as_ref().map_or(&self.blob_id, |lfs| &lfs.sha256)
    }

    /// What makes of the contents what the blob is called.
    fn checksum(&self) -> Context {
        if self.lfs.is_some() {
            return Context::new(&digest::SHA256);
        }
        let mut git = Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        git.update(format!("blob {}\0", self.size).as_bytes());
        git
    }
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
    let mut work = Download::new(cache.clone(), id.clone(), events.clone());
    // However the caller leaves, the other thread ends soon, and its locks with it.
    let _stop = StopOnDrop(work.agent.clone());
    let run = move || {
        let _ = events.send(Event::End(without_panic(|| work.run()).flatten()));
    };
    let thread = std::thread::Builder::new().name("mlxrt download".into()).spawn(run);
    thread.map_err(|error| Error::Internal(format!("no thread to download with: {error}")))?;
    loop {
        if options.cancel.as_ref().is_some_and(|cancel| cancel.is_triggered()) {
            return Err(Error::Cancelled);
        }
        match received.recv_timeout(CANCEL_POLL) {
            Ok(Event::Progress(done, total)) if !progress(done, total) => return Err(Error::Cancelled),
            Ok(Event::Progress(..)) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Event::End(end)) => return end,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Internal("the download thread ended without a word".into()));
            }
        }
    }
}

struct StopOnDrop(Agent);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.clone().shutdown();
    }
}

/// A download, on its own thread.
struct Download {
    cache: HubCache,
    id: ModelId,
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    /// Its other end is gone when nobody waits any more.
    events: Sender<Event>,
    /// Bytes of the files that are whole.
    done: u64,
    /// Bytes of all.
    total: u64,
    /// The most that was told: a file that has to start anew takes nothing back.
    told: u64,
}

impl Download {
    fn new(cache: HubCache, id: ModelId, events: Sender<Event>) -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let silence = variable("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|seconds| seconds.parse().ok());
        let silence = Some(silence.map_or(SILENCE, Duration::from_secs));
        let config = Agent::config_builder()
            .timeout_resolve(silence)
            .timeout_connect(silence)
            .timeout_per_read(silence)
            .timeout_per_write(silence)
            // Large files are redirected to servers that must not see the token.
            .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
            .user_agent(concat!("mlxrt/", env!("CARGO_PKG_VERSION")))
            .build();
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        // Where `hf auth login` leaves it.
        let file = cache.root().with_file_name("token");
        let token = variable("HF_TOKEN").or_else(|| fs::read_to_string(file).ok());
        Download {
            agent: config.into(),
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token: token.map(|token| token.trim().to_string()).filter(|token| !token.is_empty()),
            cache,
            id,
            events,
            done: 0,
            total: 0,
            told: 0,
        }
    }

    fn run(&mut self) -> Result<PathBuf> {
        let listing = self.list()?;
        let files = needed(&listing.siblings);
        if files.is_empty() {
            return Err(Error::NotFound(format!("{}: has no .safetensors files on the hub", self.id.name)));
        }
        let snapshot = self.cache.snapshot(&self.id.name, &listing.sha);
        let is_there = |file: &&Remote| size(&snapshot.join(&file.rfilename)) == Some(file.size);
        self.total = files.iter().map(|file| file.size).sum();
        self.done = files.iter().filter(is_there).map(|file| file.size).sum();
        self.tell(0)?;
        for file in &files {
            let path = snapshot.join(&file.rfilename);
            if !is_there(&file) {
                self.get(&listing.sha, file, &path)?;
                self.done += file.size;
                self.tell(0)?;
            }
            if file.rfilename == "config.json" {
                // An unknown architecture is told before gigabytes are on their way.
                models::find(&Config::read(&path)?)?;
            }
        }
        self.write_reference(&listing.sha)?;
        Ok(snapshot)
    }

    fn list(&self) -> Result<Listing> {
        let revision = percent_encoded(&self.id.revision);
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.endpoint, self.id.name);
        let listing = self.ask(&url, 0)?.body_mut().read_json::<Listing>();
        let listing = listing.map_err(|error| self.failed(format!("the hub's list of files: {error}")))?;
        // They become names in the cache.
        let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let blobs = listing.siblings.iter().map(Remote::blob);
        match std::iter::once(listing.sha.as_str()).chain(blobs).find(|text| !is_hex(text)) {
            Some(odd) => Err(self.failed(format!("the hub's list of files: \"{odd}\" is no checksum"))),
            None => Ok(listing),
        }
    }

    /// Makes a file of the snapshot.
    fn get(&mut self, commit: &str, file: &Remote, path: &Path) -> Result<()> {
        let blobs = self.cache.repository(&self.id.name).join("blobs");
        let blob = blobs.join(file.blob());
        fs::create_dir_all(&blobs).map_err(|error| refused(&blobs, error))?;
        let _lock = self.lock(file.blob())?;
        // It may have come meanwhile, or with another commit.
        if size(&blob) != Some(file.size) {
            let part = blobs.join(format!("{}.incomplete", file.blob()));
            self.fetch(commit, file, &part)?;
            fs::rename(&part, &blob).map_err(|error| refused(&blob, error))?;
        }
        let up = "../".repeat(2 + file.rfilename.matches('/').count());
        let _ = fs::remove_file(path);
        let folder = path.parent().unwrap_or(path);
        fs::create_dir_all(folder)
            .and_then(|()| std::os::unix::fs::symlink(format!("{up}blobs/{}", file.blob()), path))
            .map_err(|error| refused(path, error))
    }

    /// Downloads what is missing of a part, and checks all of it.
    fn fetch(&mut self, commit: &str, file: &Remote, part: &Path) -> Result<()> {
        let name = &file.rfilename;
        let refused = |error| refused(part, error);
        let out = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(part);
        let mut out = out.map_err(refused)?;
        let mut have = out.metadata().map_err(refused)?.len();
        if have > file.size {
            have = 0;
        }
        let mut rest: Box<dyn Read> = Box::new(io::empty());
        if have < file.size {
            let url = format!("{}/{}/resolve/{commit}/{name}", self.endpoint, self.id.name);
            let answer = self.ask(&url, have)?;
            // A server may send the whole file, whatever it was asked for.
            have = begin(&answer).filter(|&begin| begin <= have).unwrap_or(0);
            rest = Box::new(answer.into_body().into_reader());
        }
        out.set_len(have).map_err(refused)?;

        let mut checksum = file.checksum();
        let mut buffer = vec![0; 1 << 16];
        let (mut done, mut next) = (0, 0);
        loop {
            // First what is there already, which also brings `out` to its end.
            let stored = done < have;
            let length = if stored {
                out.read(&mut buffer).map_err(refused)?
            } else {
                let read = rest.read(&mut buffer);
                read.map_err(|error| self.failed(format!("{name}: after {done} bytes: {error}")))?
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            checksum.update(bytes);
            done += length as u64;
            if length == 0 || done > file.size {
                break;
            }
            if !stored {
                out.write_all(bytes).map_err(refused)?;
            }
            if done >= next {
                self.tell(done)?;
                next = done + STEP;
            }
        }
        if done < file.size {
            return Err(self.failed(format!("{name}: {done} bytes came, {} expected", file.size)));
        }
        let sum: String = checksum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if sum != file.blob().to_ascii_lowercase() {
            let _ = fs::remove_file(part);
            let what = format!("{name}: its checksum is {sum}, the hub lists {}", file.blob());
            return Err(self.failed(what));
        }
        out.sync_all().map_err(refused)
    }

    /// Waits until no other process, nor a thread of this one, is downloading the blob. `huggingface_hub`
    /// has the same locks.
    fn lock(&mut self, blob: &str) -> Result<File> {
        let repository = self.cache.repository(&self.id.name);
        let folder = self.cache.root().join(".locks").join(repository.file_name().unwrap_or_default());
        let path = folder.join(format!("{blob}.lock"));
        let file = fs::create_dir_all(&folder).and_then(|()| File::create(&path));
        let file = file.map_err(|error| refused(&path, error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
                Err(TryLockError::Error(error)) => return Err(refused(&path, error)),
            }
            self.tell(0)?;
        }
    }

    /// Says which commit the revision stands for.
    fn write_reference(&self, commit: &str) -> Result<()> {
        if self.id.revision == commit {
            return Ok(());
        }
        let path = self.cache.repository(&self.id.name).join("refs").join(&self.id.revision);
        fs::create_dir_all(path.parent().unwrap_or(&path))
            .and_then(|()| fs::write(&path, commit))
            .map_err(|error| refused(&path, error))
    }

    fn ask(&self, url: &str, from: u64) -> Result<Response<Body>> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request.call().map_err(|error| match error {
            ureq::Error::StatusCode(status @ (401 | 403 | 404)) => Error::NotFound(format!(
                "{}: the hub answered {status}: it is not there, or not for everybody (HF_TOKEN) ({url})",
                self.id.name
            )),
            other => self.failed(format!("{url}: {other}")),
        })
    }

    /// Tells the caller, whose absence is an error.
    fn tell(&mut self, of_this_file: u64) -> Result<()> {
        self.told = self.told.max(self.done + of_this_file);
        self.events.send(Event::Progress(self.told, self.total)).map_err(|_| Error::Cancelled)
    }

    fn failed(&self, what: impl std::fmt::Display) -> Error {
        Error::Network(format!("downloading {}: {what}", self.id.name))
    }
}

fn refused(path: &Path, error: io::Error) -> Error {
    Error::Io(format!("{}: {error}", path.display()))
}

/// The place in the file where an answer begins.
fn begin(answer: &Response<Body>) -> Option<u64> {
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Some(0);
    }
    let range = answer.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect()
}

/// The files that loading reads, config.json first and weights last. Those of other formats and of other
/// subfolders than that of chat templates are left where they are.
fn needed(all: &[Remote]) -> Vec<Remote> {
    let plain = |name: &str| {
        hub::is_file_name(name)
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let is_template = |name: &str| {
        let inside = name.split_once('/').filter(|(folder, _)| *folder == chat::TEMPLATES);
        inside.is_some_and(|(_, inside)| plain(inside) && inside.ends_with(".jinja"))
    };
    let is_small = |name: &str| {
        let known = name.ends_with(".json") || name.ends_with(".jinja") || name == "tokenizer.model";
        (plain(name) && known) || is_template(name)
    };
    let mut weights: Vec<_> = all.iter().filter(|file| plain(&file.rfilename)).cloned().collect();
    checkpoint::keep_weights(&mut weights, |file| Some(&file.rfilename));
    if weights.is_empty() {
        return weights;
    }
    let mut needed: Vec<_> = all.iter().filter(|file| is_small(&file.rfilename)).cloned().collect();
    needed.sort_by_key(|file| file.rfilename != "config.json");
    needed.extend(weights);
    needed
}

fn size(file: &Path) -> Option<u64> {
    fs::metadata(file).ok().filter(|metadata| metadata.is_file()).map(|metadata| metadata.len())
}
