//! Tokenizers of every kind against Hugging Face's own code (tests/parity/tokenization.py).

#[path = "common/allocations.rs"]
mod allocations;
mod common;

use allocations::ALLOCATED;
use mlxrt::engine::{ChatTemplate, Conversation, Detokenizer, Encoding, Tokenizer};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Expected {
    texts: Vec<Text>,
    decoded: Vec<Decoded>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    /// By what was asked for.
    ids: HashMap<String, Vec<i32>>,
}

#[derive(Deserialize)]
struct Decoded {
    ids: Vec<i32>,
    /// `None`: Hugging Face's code crashes.
    text: Option<String>,
    no_special: Option<String>,
}

/// The folders of all kinds, made once for all tests; `None`: no Python here.
fn kinds(test: &str) -> Option<Vec<PathBuf>> {
    static MADE: parking_lot::Mutex<Option<bool>> = parking_lot::Mutex::new(None);
    let out = common::scratch("tokenizers");
    let made = *MADE.lock().get_or_insert_with(|| {
        std::fs::remove_dir_all(&out).unwrap();
        common::python(test, "tokenization.py", &[out.to_str().unwrap()]).is_some()
    });
    if !made {
        common::skip(test, "no Python with tokenizers");
        return None;
    }
    let mut folders: Vec<_> = out.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    Some(folders)
}

fn load(folder: &Path) -> (String, Tokenizer, Expected) {
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    (name, Tokenizer::load(folder).unwrap(), serde_json::from_str(&expected).unwrap())
}

fn report(failures: &[String], count: usize) {
    let shown = failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {count} differ:\n{shown}", failures.len());
}

#[test]
fn ids_are_hugging_faces() {
    let Some(folders) = kinds("token ids") else { return };
    let (mut failures, mut count) = (vec![], 0);
    for (name, tokenizer, expected) in folders.iter().map(|folder| load(folder)) {
        for Text { text, ids } in &expected.texts {
            for (how, theirs) in ids {
                let encoding = Encoding {
                    add_special: how.contains("add_special"),
                    plain_text: how.contains("plain_text"),
                };
                let ours = tokenizer.encode(text, encoding).unwrap();
                if ours != *theirs {
                    failures.push(format!("{name} [{how}] {text:?}\n  {theirs:?}\n  {ours:?}"));
                }
                count += 1;
            }
        }
    }
    println!("{count} texts tokenized by {} tokenizers", folders.len());
    report(&failures, count);
}

/// The ids of a message that nobody trusts, printed as it is.
fn message_ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<i32>, String> {
    let template = ChatTemplate::compile("{{ messages[0].content }}", Default::default()).unwrap();
    let conversation = Conversation::new([("user", text)]);
    template.encode(tokenizer, conversation, true).map_err(|error| error.to_string())
}

#[test]
fn a_message_of_plain_text_has_the_ids_of_plain_text() {
    let Some(folders) = kinds("messages as plain text") else { return };
    let (mut failures, mut count, mut refused) = (vec![], 0, 0);
    for folder in &folders {
        let (name, tokenizer, expected) = load(folder);
        let json = std::fs::read_to_string(folder.join("tokenizer.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let added = json["added_tokens"].as_array().unwrap().iter();
        let special: Vec<_> =
            added.filter(|token| token["special"] == true).map(|token| &token["id"]).collect();
        for Text { text, ids } in &expected.texts {
            // The library's own mark is no part of a message.
            if text.contains('\u{fdd0}') {
                continue;
            }
            count += 1;
            match message_ids(&tokenizer, text) {
                Ok(ours) if ours == ids["plain_text"] => {}
                Err(error) if error.contains("among its ordinary tokens") => {
                    let theirs = &ids["plain_text"];
                    assert!(
                        theirs.iter().any(|&id| special.iter().any(|&special| *special == id)),
                        "{name}: {error}"
                    );
                    refused += 1;
                }
                ours => failures.push(format!("{name} {text:?}\n  {:?}\n  {ours:?}", ids["plain_text"])),
            }
        }
    }
    println!("{count} messages, {refused} refused");
    report(&failures, count);
}

/// Words, with one added token.
fn with_added(normalizer: &str, token: &str, normalized: bool) -> Tokenizer {
    let json = serde_json::json!({
        "added_tokens": [{
            "id": 2, "content": token, "special": true, "normalized": normalized,
            "single_word": false, "lstrip": false, "rstrip": false,
        }],
        "normalizer": { "type": normalizer },
        "pre_tokenizer": { "type": "Whitespace" },
        "model": { "type": "WordLevel", "vocab": { "<unk>": 0, "pad": 1 }, "unk_token": "<unk>" },
    });
    let inner = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
    Tokenizer::new(inner, Default::default(), []).unwrap()
}

#[test]
fn a_special_token_that_is_matched_after_the_normalizer_stays_text() {
    for (normalizer, texts) in [
        ("Lowercase", &["<PAD>", "<pad>", "a <Pad><pAd>", "<PAD"][..]),
        ("NFKC", &["＜pad＞", "<pad>", "<ｐad>"]),
    ] {
        let tokenizer = with_added(normalizer, "<pad>", true);
        for text in texts {
            let special = tokenizer.encode(&format!("{text}>"), Encoding::default()).unwrap();
            assert!(special.contains(&2), "{text}");
            let plain = message_ids(&tokenizer, text).unwrap();
            assert!(!plain.contains(&2), "{normalizer}: {text:?} became {plain:?}");
            let two = "{{ messages[0].content }}{{ messages[0].rest }}";
            let template = ChatTemplate::compile(two, Default::default()).unwrap();
            let message = serde_json::json!({ "role": "user", "content": text, "rest": ">" });
            let conversation = Conversation { messages: vec![message], ..Conversation::new([]) };
            let ids = template.encode(&tokenizer, conversation, true).unwrap();
            assert!(!ids.contains(&2), "{normalizer}: {text:?} in two became {ids:?}");
        }
    }
}

#[test]
fn a_special_token_of_one_character_is_refused() {
    let tokenizer = with_added("NFC", "§", false);
    let error = message_ids(&tokenizer, "a § b").unwrap_err();
    assert!(error.contains("\"§\" cannot be read as text"), "{error}");
    assert!(message_ids(&tokenizer, "a b").is_ok());
}

#[test]
fn a_folder_with_another_kind_of_tokenizer_says_what_to_do() {
    let folder = common::scratch("no_tokenizer");
    std::fs::write(folder.join("tekken.json"), "{}").unwrap();
    let error = Tokenizer::load(&folder).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("tekken.json") && error.contains("mlx-community"), "{error}");
}

fn streamed(tokenizer: &Tokenizer, ids: &[i32], skip_special: bool) -> String {
    let mut stream = Detokenizer::new(tokenizer, skip_special);
    let mut text: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    text += &stream.finish().unwrap();
    text
}

#[test]
fn text_is_hugging_faces_streamed_and_at_once() {
    let Some(folders) = kinds("detokenization") else { return };
    let (mut failures, mut count, mut tokens, mut crashes) = (vec![], 0, 0, 0);
    for (name, tokenizer, expected) in folders.iter().map(|folder| load(folder)) {
        for Decoded { ids, text, no_special } in &expected.decoded {
            for (skip_special, theirs) in [(false, text), (true, no_special)] {
                let at_once = tokenizer.decode(ids, skip_special).unwrap();
                let ours = streamed(&tokenizer, ids, skip_special);
                let same = theirs.as_ref().is_none_or(|theirs| *theirs == at_once && *theirs == ours);
                if !same {
                    failures.push(format!("{name} {ids:?}\n  {theirs:?}\n  {at_once:?}\n  {ours:?}"));
                }
                count += 1;
                tokens += ids.len();
                crashes += usize::from(theirs.is_none());
            }
        }
    }
    println!("{count} sequences of {tokens} tokens decoded; Hugging Face's code crashes on {crashes}");
    report(&failures, count);
}

#[test]
fn a_character_comes_whole_and_as_soon_as_it_can() {
    let tokenizer = Tokenizer::load(&common::demo_model()).unwrap();
    for text in ["🙂", "a\u{301}字🇳🇴", "\u{fffd}", "مرحبا"] {
        let ids = tokenizer.encode(text, Encoding::default()).unwrap();
        let mut stream = Detokenizer::new(&tokenizer, true);
        let before_last: String = ids[..ids.len() - 1].iter().map(|&id| stream.push(id).unwrap()).collect();
        let last = stream.push(ids[ids.len() - 1]).unwrap();
        assert_eq!(before_last + &last, text);
        assert!(!last.is_empty() && stream.finish().unwrap().is_empty());
    }
}

#[test]
fn the_end_of_a_turn_comes_from_all_files_that_name_it() {
    let folder = common::scratch("end_ids");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(common::demo_model().join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    let write = |name: &str, content: &str| std::fs::write(folder.join(name), content).unwrap();
    let ids = || Tokenizer::load(&folder).map(|tokenizer| tokenizer.end_ids().to_vec());

    assert_eq!(ids().unwrap(), [] as [i32; 0]);
    write("config.json", r#"{"text_config": {"eos_token_id": 7}}"#);
    assert_eq!(ids().unwrap(), [7]);
    write("config.json", r#"{"eos_token_id": [9, 8], "text_config": {"eos_token_id": 7}}"#);
    assert_eq!(ids().unwrap(), [8, 9]);
    // As mlx-lm has it: generation_config.json stands in for config.json.
    write("generation_config.json", r#"{"eos_token_id": null}"#);
    assert_eq!(ids().unwrap(), [8, 9]);
    write("generation_config.json", r#"{"eos_token_id": 5}"#);
    assert_eq!(ids().unwrap(), [5]);
    write("special_tokens_map.json", r#"{"eos_token": {"content": "<|endoftext|>"}}"#);
    assert_eq!(ids().unwrap(), [0, 5]);
    write("tokenizer_config.json", r#"{"eos_token": "<|im_end|>", "added_tokens_decoder": {}}"#);
    assert_eq!(ids().unwrap(), [2, 5]);
    write("tokenizer_config.json", r#"{"eos_token": "not a token of it", "added_tokens_decoder": {}}"#);
    assert_eq!(ids().unwrap(), [5]);
    for bad in [r#""</s>""#, "1.5", "[1, null]", "99999999999", "{}"] {
        write("generation_config.json", &format!(r#"{{"eos_token_id": {bad}}}"#));
        let error = ids().unwrap_err().to_string();
        assert!(error.contains("generation_config.json") && error.contains("`eos_token_id`"), "{error}");
    }
}

#[test]
fn the_hundred_thousandth_token_costs_what_the_tenth_costs() {
    let Some(folders) = kinds("the cost of detokenization") else { return };
    for (name, tokenizer, expected) in folders.iter().map(|folder| load(folder)) {
        // These hold all text until its end, which no model's tokenizer does.
        if name.starts_with("fused_then") {
            continue;
        }
        // A period of ordinary tokens, and one of the same token, which may be half a character.
        let round = &expected.decoded.iter().find(|row| row.ids.len() == 100).unwrap().ids;
        let broken = &expected.decoded.iter().rev().find(|row| row.ids.len() == 1000).map(|row| &row.ids);
        for period in [Some(round), broken.as_deref()].into_iter().flatten() {
            let mut stream = Detokenizer::new(&tokenizer, false);
            let mut most = |rounds: usize| {
                let mut most = 0;
                for &id in period.iter().cycle().take(rounds * period.len()) {
                    let before = ALLOCATED.get();
                    stream.push(id).unwrap();
                    most = most.max(ALLOCATED.get() - before);
                }
                most
            };
            let first = most(2);
            most(100_000 / period.len());
            let last = most(2);
            assert!(last <= first, "{name}: {first} bytes a token at first, {last} at last");
        }
    }
}
