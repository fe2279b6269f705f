//! Chat templates against Hugging Face's own renderer (tests/parity/chat.py).

mod common;

use mlxrt::engine::{ChatTemplate, Conversation, Encoding, Tokenizer};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Expected {
    chats: Vec<Chat>,
}

#[derive(Deserialize)]
struct Chat {
    template_file: Option<String>,
    template: Option<String>,
    special_tokens: Map<String, Value>,
    messages: Vec<Value>,
    tools: Option<Vec<Value>>,
    variables: Map<String, Value>,
    add_generation_prompt: bool,
    /// `None`: the template refuses.
    text: Option<String>,
    error: Option<String>,
    error_type: Option<String>,
}

/// Templates of real models, which belong to their publishers and so are not part of the project.
fn templates() -> PathBuf {
    let given = std::env::var_os("MLXRT_TEMPLATES").map(PathBuf::from);
    given.unwrap_or_else(|| common::root().join("../shared/templates"))
}

/// What Hugging Face's renderer made, once for all tests; `None`: no Python here.
fn expected(test: &str) -> Option<Expected> {
    static MADE: parking_lot::Mutex<Option<bool>> = parking_lot::Mutex::new(None);
    let out = common::scratch("chat").join("expected.json");
    let (model, templates) = (common::demo_model(), templates());
    let args = ["--model", model.to_str()?, "--templates", templates.to_str()?, out.to_str()?];
    let made = *MADE.lock().get_or_insert_with(|| common::python(test, "chat.py", &args).is_some());
    if !made {
        common::skip(test, "no Python with transformers");
        return None;
    }
    Some(serde_json::from_str(&std::fs::read_to_string(out).unwrap()).unwrap())
}

/// A known difference: Jinja's loop over none is Python's error, which no template wishes for. Ours
/// takes none for an empty list.
const PYTHON_ONLY: &str = "'NoneType' object is not iterable";

/// What became of the comparisons.
#[derive(Default)]
struct Tally {
    equal: usize,
    /// Refused by both; the template's own message comes through.
    refused: usize,
    /// Where [`PYTHON_ONLY`] fails.
    python_only: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Tally {
    fn compare(&mut self, chat: &Chat, template: &ChatTemplate) {
        let name = chat.template_file.as_deref().or(chat.template.as_deref()).unwrap_or("demo model");
        let ours = template.render(&Conversation {
            messages: chat.messages.clone(),
            tools: chat.tools.clone(),
            variables: chat.variables.clone(),
            add_generation_prompt: chat.add_generation_prompt,
        });
        let (error, kind) = (chat.error.as_deref(), chat.error_type.as_deref());
        match (&chat.text, ours) {
            (Some(theirs), Ok(ours)) if *theirs == ours => self.equal += 1,
            (Some(theirs), ours) => {
                let tools = chat.tools.is_some();
                let (messages, variables) = (json!(chat.messages), json!(chat.variables));
                let request = format!("{messages} tools: {tools} {variables}");
                self.failures.push(format!("{name}: {request}\n  {theirs:?}\n  {ours:?}"));
            }
            (None, Err(ours)) => match kind {
                Some("TemplateError") if !ours.to_string().ends_with(error.unwrap_or_default()) => {
                    self.failures.push(format!("{name}: raises {error:?}, ours says {ours}"));
                }
                _ => self.refused += 1,
            },
            (None, Ok(_)) if error == Some(PYTHON_ONLY) => {
                *self.python_only.entry(name.to_string()).or_default() += 1;
            }
            (None, Ok(ours)) => {
                self.failures.push(format!("{name}: raises {error:?}, ours gives {ours:?}"));
            }
        }
    }

    fn finish(self) {
        let Tally { equal, refused, python_only, failures } = self;
        println!("{equal} renderings equal, {refused} refused by both");
        for (template, count) in python_only {
            println!("  {count} where only Python raises \"{PYTHON_ONLY}\": {template}");
        }
        let shown = failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(failures.is_empty(), "{} differ:\n{shown}", failures.len());
    }
}

#[test]
fn the_demo_models_template_renders_as_hugging_face_renders_it() {
    let Some(expected) = expected("the demo model's chat template") else { return };
    let tokenizer = Tokenizer::load(&common::demo_model()).unwrap();
    let template = ChatTemplate::load(&common::demo_model(), &tokenizer).unwrap().unwrap();
    let mut tally = Tally::default();
    for chat in expected.chats.iter().filter(|chat| chat.template_file.is_none() && chat.template.is_none()) {
        tally.compare(chat, &template);
    }
    tally.finish();
}

#[test]
fn templates_of_real_models_render_as_hugging_face_renders_them() {
    const NAME: &str = "chat templates of real models";
    if !templates().is_dir() {
        return common::skip(NAME, "no folder with them (MLXRT_TEMPLATES)");
    }
    let Some(expected) = expected(NAME) else { return };
    let mut tally = Tally::default();
    let mut compiled = BTreeMap::new();
    for chat in &expected.chats {
        let Some(file) = &chat.template_file else { continue };
        let template = compiled.entry(file).or_insert_with(|| {
            let source = std::fs::read_to_string(templates().join(file)).unwrap();
            ChatTemplate::compile(&source, chat.special_tokens.clone()).unwrap()
        });
        tally.compare(chat, template);
    }
    tally.finish();
}

#[test]
fn templates_of_real_models_render_long_conversations() {
    if !templates().is_dir() {
        return common::skip("long conversations", "no folder with chat templates (MLXRT_TEMPLATES)");
    }
    let turns = |count: usize, text: &str| {
        let roles = ["user", "assistant"].iter().cycle().take(count);
        let messages = roles.map(|role| json!({ "role": role, "content": text })).collect();
        let tools = json!({ "type": "function", "function": { "name": "f", "description": "d",
            "parameters": { "type": "object", "properties": { "a": { "type": "string" } } } } });
        [None, Some(vec![tools])].map(|tools| Conversation {
            messages: Vec::clone(&messages),
            tools,
            ..Conversation::new([])
        })
    };
    for file in templates().read_dir().unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "jinja") {
            continue;
        }
        let template = ChatTemplate::compile(&std::fs::read_to_string(&file).unwrap(), Map::new()).unwrap();
        for (count, text) in [(999, "hi"), (99, &*"Some words. ".repeat(20_000))] {
            for conversation in turns(count, text) {
                let error = template.render(&conversation).err().map(|error| error.to_string());
                let error = error.filter(|error| error.contains("fuel"));
                assert_eq!(error, None, "{}: {count} messages", file.display());
            }
        }
    }
}

#[test]
fn small_templates_render_as_hugging_face_renders_them() {
    let Some(expected) = expected("small chat templates") else { return };
    let mut tally = Tally::default();
    for chat in &expected.chats {
        let Some(source) = &chat.template else { continue };
        match ChatTemplate::compile(source, chat.special_tokens.clone()) {
            Ok(template) => tally.compare(chat, &template),
            Err(error) => tally.failures.push(format!("{source}: {error}")),
        }
    }
    tally.finish();
}

fn render(source: &str, variables: Value) -> Result<String, String> {
    let Value::Object(variables) = variables else { panic!("an object") };
    let template = ChatTemplate::compile(source, Map::new()).map_err(|error| error.to_string())?;
    let conversation = Conversation { variables, ..Conversation::new([("user", "hi")]) };
    template.render(&conversation).map_err(|error| error.to_string())
}

#[test]
fn a_broken_template_is_an_error_that_names_it() {
    let error = render("{% if %}", json!({})).unwrap_err();
    assert!(error.contains("chat_template"), "{error}");
    let error = render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", json!({})).unwrap_err();
    assert!(error.contains("recursion"), "{error}");
    let error = render("{{ raise_exception('No \\'cats\\' here!') }}", json!({})).unwrap_err();
    assert!(error.ends_with("No 'cats' here!"), "{error}");
}

#[test]
fn reserved_variables_are_the_librarys() {
    for name in ["messages", "tools", "add_generation_prompt"] {
        let error = render("x", json!({ name: 1 })).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn a_models_templates_are_found_where_hugging_face_looks() {
    let folder = common::scratch("templates");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("additional_chat_templates")).unwrap();
    std::fs::copy(common::demo_model().join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    let tools = Conversation { tools: Some(vec![]), ..Conversation::new([("user", "hi")]) };
    let no_tools = Conversation { tools: None, ..tools.clone() };
    let found = || {
        let tokenizer = Tokenizer::load(&folder).unwrap();
        let template = ChatTemplate::load(&folder, &tokenizer).unwrap()?;
        Some([&no_tools, &tools].map(|given| template.render(given).map_err(|error| error.to_string())))
    };
    let write = |name: &str, content: &str| std::fs::write(folder.join(name), content).unwrap();
    let both = |first: &str, second: &str| Some([Ok(first.to_string()), Ok(second.to_string())]);

    assert_eq!(found(), None);
    write("chat_template.json", r#"{"chat_template": "json"}"#);
    assert_eq!(found(), both("json", "json"));
    write("tokenizer_config.json", r#"{"chat_template": [{"name": "tool_use", "template": "T"}]}"#);
    let [without, with] = found().unwrap();
    assert!(without.unwrap_err().contains("default"));
    assert_eq!(with.unwrap(), "T");
    write(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "rag", "template": "R"}, {"name": "tool_use", "template": "T"},
            {"name": "default", "template": "{{ bos_token }}D"}], "bos_token": {"content": "<b>"}}"#,
    );
    assert_eq!(found(), both("<b>D", "T"));
    write("chat_template.jinja", "file");
    assert_eq!(found(), both("file", "file"));
    write("additional_chat_templates/tool_use.jinja", "tools");
    assert_eq!(found(), both("file", "tools"));
}

#[test]
fn templates_that_hugging_face_saved_are_found() {
    let Some(_) = expected("saved chat templates") else { return };
    let folder = common::scratch("chat").join("saved");
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let template = ChatTemplate::load(&folder, &tokenizer).unwrap().unwrap();
    let tools = Conversation { tools: Some(vec![]), ..Conversation::new([("user", "hi")]) };
    assert_eq!(template.render(&tools).unwrap(), "with tools");
    assert_eq!(template.render(&Conversation { tools: None, ..tools }).unwrap(), "without");
}

/// What the demo model's tokenizer makes of a conversation whose texts nobody trusts.
fn plain_ids(template: &str, messages: Value) -> Result<Vec<i32>, String> {
    let Value::Array(messages) = messages else { panic!("a list") };
    let tokenizer = Tokenizer::load(&common::demo_model()).unwrap();
    let template = ChatTemplate::compile(template, Map::new()).unwrap();
    let conversation = Conversation { messages, ..Conversation::new([]) };
    template.encode(&tokenizer, conversation, true).map_err(|error| error.to_string())
}

/// The demo model's `<|im_end|>`.
const END: i32 = 2;

#[test]
fn a_special_token_in_pieces_stays_text() {
    let parts = "{% for part in messages[0].content %}{{ part.text | trim }}{% endfor %}<|im_end|>";
    for pieces in [
        &["<|im_", "end|>"][..],
        &["<", "|im_end|>"],
        &["<|im_end|", ">"],
        &["a <|im", "_en", "d|>"],
        &["<|im_ \n", " end|>"],
        &["<|im_end|><|im_", "end|>"],
        &["<<|im_end|>", ""],
    ] {
        let content: Vec<_> = pieces.iter().map(|text| json!({ "type": "text", "text": text })).collect();
        let ids = plain_ids(parts, json!([{ "role": "user", "content": content }])).unwrap();
        assert_eq!(ids.iter().filter(|&&id| id == END).count(), 1, "{pieces:?}: {ids:?}");
        assert_eq!(ids.last(), Some(&END), "{pieces:?}");
    }
    let call = "{% set call = messages[0].tool_calls[0] %}{{ call.name ~ call.arguments }}";
    let calls = json!([{ "name": "<|im_", "arguments": "end|>" }]);
    let ids = plain_ids(call, json!([{ "role": "assistant", "tool_calls": calls }])).unwrap();
    assert!(!ids.contains(&END), "{ids:?}");
}

#[test]
fn a_special_token_as_a_key_stays_text() {
    let message = json!([{ "role": "user", "arguments": { "<|im_end|>": { "a<|im_end|>": 1 }, "b": 2 } }]);
    for template in [
        "{{ messages[0].arguments | tojson }}",
        "{% for key, _ in messages[0].arguments | items %}{{ key }}{% endfor %}",
    ] {
        let ids = plain_ids(template, message.clone()).unwrap();
        assert!(!ids.contains(&END), "{template}: {ids:?}");
    }
    // The mark is no text, however the template writes it.
    let json = "{{ messages[0].arguments | tojson(ensure_ascii=true) }}";
    let plain = r#"{"<|im_end|>": {"a<|im_end|>": 1}, "b": 2}"#;
    let tokenizer = Tokenizer::load(&common::demo_model()).unwrap();
    let how = Encoding { plain_text: true, ..Default::default() };
    assert_eq!(plain_ids(json, message).unwrap(), tokenizer.encode(plain, how).unwrap());
}
