//! Downloads, from a hub of the tests' own on this machine.

mod common;

use mlxrt::engine::{Cancel, HubCache, LoadOptions, Model, ModelId};
use mlxrt::error::{Error, Result};
use once_cell::sync::Lazy;
use parking_lot::Mutex;
use ring::digest;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const COMMIT: &str = "c0ffee0123456789c0ffee0123456789c0ffee01";

/// How a repository of the hub serves its weights, once.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// The connection breaks after so many bytes.
    Breaks(usize),
    /// Nothing comes after so many bytes, for a while.
    Hangs(usize),
    /// The whole file, whatever was asked for.
    IgnoresRange,
    /// As many bytes, but others.
    Spoils,
    /// The hub has a bad day.
    Fails,
}

#[derive(Default)]
struct State {
    faults: HashMap<String, Fault>,
    /// Repository, file and first byte of what was asked for.
    requests: Vec<(String, String, usize)>,
}

/// The hub and a cache, for the whole process; each test has a repository of its own.
struct Hub {
    cache: HubCache,
    state: Arc<Mutex<State>>,
}

static HUB: Lazy<Hub> = Lazy::new(|| {
    let folder = common::scratch("hub-cache");
    std::fs::remove_dir_all(&folder).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    // SAFETY: every test comes by here before it does anything else.
    unsafe {
        std::env::set_var("HF_HUB_CACHE", &folder);
        std::env::set_var("HF_ENDPOINT", &address);
        std::env::set_var("HF_TOKEN", "");
        std::env::set_var("HF_HUB_DOWNLOAD_TIMEOUT", "4");
        std::env::set_var("NO_PROXY", "127.0.0.1");
    }
    let state = Arc::new(Mutex::new(State::default()));
    let shared = state.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (state, address) = (shared.clone(), address.clone());
            // A client that hangs up makes an error, which is its own affair.
            std::thread::spawn(move || answer(stream.unwrap(), &address, &state).ok());
        }
    });
    Hub { cache: HubCache::new(folder), state }
});

/// A file of a folder that downloads go into.
const TEMPLATE: &str = "additional_chat_templates/tool_use.jinja";

fn content(repository: &str, file: &str) -> Option<Vec<u8>> {
    match (repository, file) {
        (_, TEMPLATE) => Some(b"{{ tools }}".to_vec()),
        ("org/odd", "config.json") => Some(br#"{"model_type": "mamba"}"#.to_vec()),
        ("org/missing", _) => None,
        _ => std::fs::read(common::demo_model().join(file)).ok(),
    }
}

fn hex(algorithm: &'static digest::Algorithm, bytes: &[u8]) -> String {
    digest::digest(algorithm, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the hub says of a file; `git hash-object` gives the same `blobId`.
fn listed(name: &str, contents: &[u8]) -> serde_json::Value {
    let blob = [format!("blob {}\0", contents.len()).as_bytes(), contents].concat();
    let id = hex(&digest::SHA1_FOR_LEGACY_USE_ONLY, &blob);
    let mut listed = serde_json::json!({"rfilename": name, "size": contents.len(), "blobId": id});
    if name.ends_with(".safetensors") {
        // The blob that git has of such a file is another one: the contents are elsewhere.
        listed["blobId"] = "0123456789".into();
        listed["lfs"] = serde_json::json!({"sha256": hex(&digest::SHA256, contents), "pointerSize": 130});
    }
    listed
}

/// One request: the list of a repository's files, a file, or what a large file is redirected to.
fn answer(stream: TcpStream, address: &str, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_string();
    let mut start = 0;
    for line in lines.by_ref() {
        let line = line?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            start = value.strip_suffix('-').unwrap().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut out = &stream;
    let parts: Vec<&str> = path.split(['/', '?']).skip(1).collect();
    let (repository, file) = match parts[..] {
        ["api", "models", org, name, "revision", "main", ..] => (format!("{org}/{name}"), None),
        [org, name, "resolve", COMMIT, ref file @ ..] => (format!("{org}/{name}"), Some(file.join("/"))),
        ["cdn", org, name, file] => (format!("{org}/{name}"), Some(file.to_string())),
        _ => panic!("asked for {path}"),
    };
    let Some(file) = file else {
        if content(&repository, "config.json").is_none() {
            return out
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        let mut names: Vec<_> =
            std::fs::read_dir(common::demo_model())?.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        let names = names.iter().map(|name| name.to_str().unwrap()).chain([TEMPLATE]);
        let mut files: Vec<_> =
            names.map(|name| listed(name, &content(&repository, name).unwrap())).collect();
        for other in ["README.md", "original/model.safetensors", "consolidated.safetensors", "../model.json"]
        {
            files.push(listed(other, b"no bytes"));
        }
        let body = serde_json::json!({"sha": COMMIT, "siblings": files}).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        return out.write_all((head + &body).as_bytes());
    };
    // As the hub does it with weights.
    if parts[0] != "cdn" && file.ends_with(".safetensors") {
        let location = format!("{address}/cdn/{repository}/{file}");
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        return out.write_all(head.as_bytes());
    }
    let mut whole = content(&repository, &file).unwrap();
    let is_weights = file.ends_with(".safetensors");
    let fault = if is_weights { state.lock().faults.remove(&repository) } else { None };
    state.lock().requests.push((repository.clone(), file, start));
    if fault == Some(Fault::Fails) {
        return out.write_all(b"HTTP/1.1 503 Bad Day\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if fault == Some(Fault::Spoils) {
        *whole.last_mut().unwrap() ^= 1;
    }
    let start = if fault == Some(Fault::IgnoresRange) { 0 } else { start };
    let body = &whole[start..];
    let status = match start {
        0 => "200 OK".to_string(),
        _ => {
            format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{}", whole.len() - 1, whole.len())
        }
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    out.write_all(head.as_bytes())?;
    match fault {
        Some(Fault::Breaks(bytes)) => out.write_all(&body[..bytes]),
        Some(Fault::Hangs(bytes)) => {
            out.write_all(&body[..bytes])?;
            std::thread::sleep(Duration::from_secs(30));
            Ok(())
        }
        _ => out.write_all(body),
    }
}

/// Loads with downloads allowed; also gives what progress said.
fn load(id: &str, cancel: Option<Arc<Cancel>>) -> (Result<Model>, Vec<(u64, u64)>) {
    Lazy::force(&HUB);
    let options = LoadOptions { download: true, cancel, ..Default::default() };
    let mut told = vec![];
    let model = Model::load(Path::new(id), options, &mut |done, total| {
        told.push((done, total));
        true
    });
    (model, told)
}

/// Loads, which fails on the network; gives what it says.
fn network_error(id: &str) -> String {
    match load(id, None).0.err() {
        Some(Error::Network(what)) => what,
        other => panic!("{id}: {other:?}"),
    }
}

fn set_fault(repository: &str, fault: Fault) {
    HUB.state.lock().faults.insert(repository.into(), fault);
}

/// First bytes of what was asked for of the weights.
fn starts(repository: &str) -> Vec<usize> {
    let state = HUB.state.lock();
    let weights =
        state.requests.iter().filter(|(name, file, _)| name == repository && file == "model.safetensors");
    weights.map(|(_, _, start)| *start).collect()
}

fn requests(repository: &str) -> usize {
    HUB.state.lock().requests.iter().filter(|(name, ..)| name == repository).count()
}

fn is_in_cache(id: &str) -> bool {
    HUB.cache.find(&ModelId::parse(id).unwrap()).is_some()
}

/// Bytes of the demo model that a download takes.
fn total() -> u64 {
    let files = std::fs::read_dir(common::demo_model()).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>() + "{{ tools }}".len() as u64
}

#[test]
fn a_download_and_its_progress() {
    let (model, told) = load("org/whole", None);
    assert_eq!(model.unwrap().info().architecture, "llama");
    let weights = told.iter().rposition(|(done, _)| *done == 0).unwrap();
    let (download, weights) = told.split_at(weights);
    assert_eq!((download[0], *download.last().unwrap()), ((0, total()), (total(), total())));
    assert!(download.is_sorted() && download.len() > 3, "{download:?}");
    assert!(weights.is_sorted() && weights.last().unwrap().0 == weights[0].1, "{weights:?}");
    let names: Vec<_> = HUB.state.lock().requests.iter().map(|(_, file, _)| file.clone()).collect();
    assert!(!names.iter().any(|name| name.contains("README") || name.contains("consolidated")), "{names:?}");

    // From now on no network is needed.
    let before = requests("org/whole");
    let without = Model::load(Path::new("org/whole"), LoadOptions::default(), &mut |_, _| true);
    assert!(without.is_ok() && load("org/whole@main", None).0.is_ok());
    assert_eq!(requests("org/whole"), before);
    let refs = HUB.cache.root().join("models--org--whole/refs");
    assert_eq!(std::fs::read_dir(&refs).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(refs.join("main")).unwrap(), COMMIT);
    let snapshot = HUB.cache.find(&ModelId::parse("org/whole").unwrap()).unwrap();
    assert_eq!(std::fs::read(snapshot.join(TEMPLATE)).unwrap(), b"{{ tools }}");
}

#[test]
fn a_broken_connection_is_gone_on_from() {
    Lazy::force(&HUB);
    set_fault("org/broken", Fault::Breaks(1_500_000));
    let what = network_error("org/broken");
    assert!(what.contains("downloading org/broken: model.safetensors"), "{what}");
    assert!(!is_in_cache("org/broken"), "half a model is found");
    let (model, told) = load("org/broken", None);
    assert!(model.is_ok());
    assert_eq!(starts("org/broken"), [0, 1_500_000]);
    assert!(told[0].0 > 0 && told[0].1 == total(), "{told:?}");
}

#[test]
fn cancelled_while_the_network_hangs() {
    Lazy::force(&HUB);
    set_fault("org/hangs", Fault::Hangs(1_200_000));
    let cancel = Arc::new(Cancel::default());
    let trigger = cancel.clone();
    let other = std::thread::spawn(move || {
        while starts("org/hangs").is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(200));
        trigger.trigger();
        Instant::now()
    });
    assert_eq!(load("org/hangs", Some(cancel)).0.err(), Some(Error::Cancelled));
    // The hub is still silent.
    let cancelled = other.join().unwrap();
    assert!(cancelled.elapsed() < Duration::from_secs(1));
    assert!(!is_in_cache("org/hangs"));
    // The first attempt has given its lock back, before the hub's silence became an error.
    assert!(load("org/hangs", None).0.is_ok());
    assert!(cancelled.elapsed() < Duration::from_secs(3));
    assert_eq!(starts("org/hangs"), [0, 1_200_000]);
}

#[test]
fn silence_is_an_error() {
    Lazy::force(&HUB);
    set_fault("org/silent", Fault::Hangs(1000));
    let what = network_error("org/silent");
    assert!(what.contains("after 1000 bytes"), "{what}");
    assert!(load("org/silent", None).0.is_ok());
    assert_eq!(starts("org/silent"), [0, 1000]);
}

#[test]
fn a_hub_that_fails() {
    Lazy::force(&HUB);
    set_fault("org/fails", Fault::Fails);
    assert!(network_error("org/fails").contains("503"));
    assert!(load("org/fails", None).0.is_ok());
}

#[test]
fn other_bytes_than_the_hub_lists() {
    Lazy::force(&HUB);
    set_fault("org/spoils", Fault::Spoils);
    let what = network_error("org/spoils");
    assert!(what.contains("model.safetensors: its checksum is"), "{what}");
    assert!(!is_in_cache("org/spoils"));
    // Nothing of it is gone on from.
    assert!(load("org/spoils", None).0.is_ok());
    assert_eq!(starts("org/spoils"), [0, 0]);
}

#[test]
fn a_cache_that_cannot_be_written() {
    Lazy::force(&HUB);
    // A file where the folder of blobs has to be: root may write everywhere else.
    let repository = HUB.cache.repository("org/refused");
    std::fs::create_dir_all(&repository).unwrap();
    std::fs::write(repository.join("blobs"), "").unwrap();
    let what = load("org/refused", None).0.err().unwrap();
    assert!(matches!(&what, Error::Io(what) if what.contains("models--org--refused/blobs")), "{what}");
}

#[test]
fn two_threads_download_once() {
    Lazy::force(&HUB);
    let both = [(); 2].map(|()| std::thread::spawn(|| load("org/twice", None).0.is_ok()));
    assert!(both.into_iter().all(|thread| thread.join().unwrap()));
    assert_eq!(starts("org/twice"), [0]);
}

#[test]
fn progress_may_stop_it() {
    Lazy::force(&HUB);
    // Or all of it could be there before anybody has said stop.
    set_fault("org/stopped", Fault::Hangs(1_200_000));
    let options = LoadOptions { download: true, ..Default::default() };
    let end = Model::load(Path::new("org/stopped"), options, &mut |done, _| done < 1 << 20);
    assert_eq!(end.err(), Some(Error::Cancelled));
    assert!(!is_in_cache("org/stopped"));
    assert!(load("org/stopped", None).0.is_ok());
}

#[test]
fn a_hub_that_ignores_ranges_spoils_nothing() {
    Lazy::force(&HUB);
    set_fault("org/ignores", Fault::Breaks(1000));
    assert!(load("org/ignores", None).0.is_err());
    set_fault("org/ignores", Fault::IgnoresRange);
    assert!(load("org/ignores", None).0.is_ok());
    assert_eq!(starts("org/ignores"), [0, 1000]);
}

#[test]
fn a_part_that_is_already_whole() {
    Lazy::force(&HUB);
    set_fault("org/part", Fault::Breaks(1000));
    assert!(load("org/part", None).0.is_err());
    let blobs = std::fs::read_dir(HUB.cache.root().join("models--org--part/blobs")).unwrap();
    let part = blobs
        .map(|file| file.unwrap().path())
        .find(|file| file.extension().is_some_and(|e| e == "incomplete"));
    std::fs::copy(common::demo_model().join("model.safetensors"), part.unwrap()).unwrap();
    assert!(load("org/part", None).0.is_ok());
    assert_eq!(starts("org/part"), [0]);
}

#[test]
fn an_unknown_architecture_is_told_before_its_weights_are_downloaded() {
    let what = load("org/odd", None).0.err().unwrap();
    assert!(matches!(&what, Error::Unsupported(what) if what.contains("mamba")), "{what}");
    assert!(load("org/odd", None).0.is_err());
    assert_eq!(starts("org/odd"), [0; 0]);
}

#[test]
fn a_model_that_is_not_there() {
    let what = load("org/missing", None).0.err().unwrap();
    assert!(
        matches!(&what, Error::NotFound(what) if what.contains("org/missing") && what.contains("404")),
        "{what}"
    );
}
