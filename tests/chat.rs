//! Chat templates against Hugging Face's own renderer (tests/parity/chat.py).

mod common;

use mlxrt::engine::{ChatTemplate, Conversation, Tokenizer};
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
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
    let error = render(endless, json!({})).unwrap_err();
    assert!(error.contains("fuel"), "{error}");
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
    std::fs::create_dir_all(folder.join("chat_templates")).unwrap();
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
    write("chat_templates/tool_use.jinja", "tools");
    assert_eq!(found(), both("file", "tools"));
}
