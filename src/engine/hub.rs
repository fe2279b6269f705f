//! Models by name: the Hugging Face cache on this disk, and where a model that is asked for lies.

use super::checkpoint;
use super::options::LoadOptions;
use crate::error::{Error, Result};
use std::path::{Component, Path, PathBuf};

/// What a model is called on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelId {
    /// `org/name`.
    pub name: String,
    /// A branch, tag or commit.
    pub revision: String,
}

impl ModelId {
    /// Reads `org/name` or `org/name@revision`, by the hub's rules for names. `None`: it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (org, model) = name.split_once('/')?;
        let fine = is_name(org) && is_name(model) && is_revision(revision);
        fine.then(|| ModelId { name: name.into(), revision: revision.into() })
    }
}

fn is_name(name: &str) -> bool {
    let is_word = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    name.len() <= 96
        && name.bytes().all(|byte| is_word(Some(byte)) || byte == b'-' || byte == b'.')
        && is_word(name.bytes().next())
        && is_word(name.bytes().last())
        && !name.contains("--")
        && !name.contains("..")
}

/// A revision becomes a path in the cache, which it must not leave.
fn is_revision(revision: &str) -> bool {
    revision.len() <= 250
        && revision.split('/').all(is_file_name)
        && !revision.contains(|c: char| c.is_control() || c == '\\' || c == '?' || c == '#')
}

/// Whether it names a file of a folder, and nothing outside it.
pub(super) fn is_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

/// The cache that Hugging Face's libraries share:
/// `models--ORG--NAME/{blobs, refs/REVISION, snapshots/COMMIT}`.
#[derive(Debug, Clone)]
pub struct HubCache {
    root: PathBuf,
}

impl HubCache {
    /// A cache at a place of the caller's.
    pub fn new(root: PathBuf) -> Self {
        HubCache { root }
    }

    /// Where `huggingface_hub` has it: `$HF_HUB_CACHE`, or `hub` in `$HF_HOME`, or
    /// `huggingface/hub` in `$XDG_CACHE_HOME` or `~/.cache`. `None`: there is not even a home.
    pub fn from_env() -> Option<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = variable("HOME");
        let root = (variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")))
            .or_else(|| Some(variable("HF_HOME")?.join("hub")))
            .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("huggingface/hub")))
            .or_else(|| Some(home.clone()?.join(".cache/huggingface/hub")))?;
        let root = match (root.strip_prefix("~"), home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => root,
        };
        Some(HubCache { root })
    }

    /// The folder of the whole cache. It need not exist.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a model's files at a commit. It need not exist.
    pub fn snapshot(&self, name: &str, commit: &str) -> PathBuf {
        self.repository(name).join("snapshots").join(commit)
    }

    /// The folder of a model's files, if the cache has any of them.
    pub fn find(&self, id: &ModelId) -> Option<PathBuf> {
        let commit = commit_of(&self.repository(&id.name), &id.revision);
        let folder = self.snapshot(&id.name, commit.as_deref().unwrap_or(&id.revision));
        folder.is_dir().then_some(folder)
    }

    /// The folder of all that the cache has of a model. It need not exist.
    pub fn repository(&self, name: &str) -> PathBuf {
        self.root.join(format!("models--{}", name.replace('/', "--")))
    }
}

/// The commit that a branch or tag stood for when it was downloaded.
pub(super) fn commit_of(repository: &Path, revision: &str) -> Option<String> {
    let text = std::fs::read_to_string(repository.join("refs").join(revision)).ok()?;
    let commit = text.trim();
    is_file_name(commit).then(|| commit.to_string())
}

/// `org/name` of a folder of the cache, `models--org--name`.
pub(super) fn name_of(folder: &str) -> Option<String> {
    let (org, model) = folder.strip_prefix("models--")?.split_once("--")?;
    (is_name(org) && is_name(model)).then(|| format!("{org}/{model}"))
}

/// Finds a model: a path that exists, or else an id that the cache has, or else, if the options
/// allow it, a download. `progress` is told bytes done and in all of a download; false stops it.
pub(super) fn locate(
    given: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<PathBuf> {
    if given.exists() {
        return Ok(given.to_path_buf());
    }
    let nowhere = format!("{}: no such file or folder", given.display());
    let Some(id) = given.to_str().and_then(ModelId::parse) else {
        return Err(Error::NotFound(nowhere));
    };
    let Some(cache) = HubCache::from_env() else {
        return Err(Error::NotFound(format!("{nowhere}, and no HOME with a Hugging Face cache")));
    };
    match cache.find(&id) {
        Some(folder) if !options.download || is_complete(&folder) => Ok(folder),
        _ if options.download => download(&cache, &id, options, progress),
        _ => {
            let root = cache.root().display();
            Err(Error::NotFound(format!("{nowhere}, and not in the Hugging Face cache ({root})")))
        }
    }
}

/// Whether a snapshot has all that loading needs; downloads put whole files there only.
fn is_complete(folder: &Path) -> bool {
    ["config.json", "tokenizer.json"].iter().all(|name| folder.join(name).exists())
        && checkpoint::files(folder).is_ok()
}

#[cfg(feature = "hub")]
use super::download::download;

#[cfg(not(feature = "hub"))]
fn download(
    cache: &HubCache,
    id: &ModelId,
    _: &LoadOptions,
    _: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<PathBuf> {
    Err(Error::Unsupported(format!(
        "{}: neither a path nor whole in the Hugging Face cache ({}), and this library was built without \
         downloads (Cargo feature `hub`)",
        id.name,
        cache.root().display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_by_the_hubs_rules() {
        let id = ModelId::parse("mlx-community/Qwen3-0.6B-4bit").unwrap();
        assert_eq!((id.name.as_str(), id.revision.as_str()), ("mlx-community/Qwen3-0.6B-4bit", "main"));
        assert_eq!(ModelId::parse("a/b@refs/pr/1").unwrap().revision, "refs/pr/1");
        let wrong = ["", "a", "/a/b", "a/b/c", "a/", "a/b--c", "a/..", "../a", "a/.b", "a/b@", "a/b c"];
        let leaving = ["a/b@../x", "a/b@/x", "a/b@x//y", "a/b@x/../y", "a/b@.", "a/b@x\\y", "a/b@x\ny"];
        for text in wrong.iter().chain(&leaving) {
            assert_eq!(ModelId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_reference_cannot_lead_out_of_the_cache() {
        let folder = std::env::temp_dir().join(format!("mlxrt-hub-{}", std::process::id()));
        let repository = folder.join("models--a--b");
        std::fs::create_dir_all(repository.join("refs")).unwrap();
        std::fs::create_dir_all(repository.join("snapshots/c0ffee")).unwrap();
        let cache = HubCache::new(folder.clone());
        let find = |text: &str| cache.find(&ModelId::parse(text).unwrap());
        std::fs::write(repository.join("refs/main"), "c0ffee\n").unwrap();
        assert_eq!(find("a/b"), Some(repository.join("snapshots/c0ffee")));
        assert_eq!(find("a/b@c0ffee"), find("a/b"));
        assert_eq!(find("a/b@other"), None);
        for commit in ["../../..", "/", "", "."] {
            std::fs::write(repository.join("refs/main"), commit).unwrap();
            assert_eq!(find("a/b"), None, "{commit}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
