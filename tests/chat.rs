//! Chat templates and tokenization against Hugging Face's own code (tests/parity/chat.py).

mod common;

use mlxrt::engine::{ChatTemplate, Detokenizer, Message, Tokenizer};
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Expected {
    chats: Vec<Chat>,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Chat {
    template_file: Option<String>,
    bos_token: Option<String>,
    eos_token: Option<String>,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    /// `None`: the template refuses.
    text: Option<String>,
    error: Option<String>,
    error_type: Option<String>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<i32>,
    ids_with_special: Vec<i32>,
    decoded: String,
    decoded_no_special: String,
}

/// Templates of real models, which belong to their publishers and so are not part of the project.
fn templates() -> PathBuf {
    let given = std::env::var_os("MLXRT_TEMPLATES").map(PathBuf::from);
    given.unwrap_or_else(|| common::root().join("../shared/templates"))
}

fn expected(test: &str) -> Option<Expected> {
    let out = common::scratch("chat").join(format!("{test}.json"));
    let (model, templates) = (common::demo_model(), templates());
    let args = ["--model", model.to_str()?, "--templates", templates.to_str()?, out.to_str()?];
    common::python(test, "chat.py", &args)?;
    Some(serde_json::from_str(&std::fs::read_to_string(out).unwrap()).unwrap())
}

fn check(chat: &Chat, template: &ChatTemplate, failures: &mut Vec<String>) {
    let ours = template.render(&chat.messages, chat.add_generation_prompt);
    let name = chat.template_file.as_deref().unwrap_or("demo model");
    match (&chat.text, ours) {
        (Some(theirs), Ok(ours)) if *theirs == ours => {}
        (Some(theirs), Ok(ours)) => failures.push(format!("{name}:\n  {theirs:?}\n  {ours:?}")),
        (Some(_), Err(error)) => failures.push(format!("{name}: {error}")),
        (None, Err(error)) => {
            // What a template raises itself must come through; Python's own texts need not.
            let raised = chat.error.clone().unwrap_or_default();
            let own = chat.error_type.as_deref() == Some("TemplateError");
            if own && !error.to_string().contains(&raised) {
                failures.push(format!("{name}: raises {raised:?}, ours says {error}"));
            }
        }
        // Python's own type errors are no wish of the template: none is iterated over, say.
        (None, Ok(_)) if chat.error_type.as_deref() == Some("TypeError") => {}
        (None, Ok(ours)) => failures.push(format!("{name}: should refuse, gave {ours:?}")),
    }
}

#[test]
fn the_demo_models_template_renders_as_hugging_face_renders_it() {
    let Some(expected) = expected("the demo model's chat template") else { return };
    let tokenizer = Tokenizer::load(&common::demo_model()).unwrap();
    let template = ChatTemplate::load(&common::demo_model(), &tokenizer).unwrap().unwrap();
    let mut failures = vec![];
    for chat in expected.chats.iter().filter(|chat| chat.template_file.is_none()) {
        check(chat, &template, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn templates_of_real_models_render_as_hugging_face_renders_them() {
    const NAME: &str = "chat templates of real models";
    if !templates().is_dir() {
        return common::skip(NAME, "no folder with them (MLXRT_TEMPLATES)");
    }
    let Some(expected) = expected(NAME) else { return };
    let (mut failures, mut count) = (vec![], 0);
    for chat in &expected.chats {
        let Some(file) = &chat.template_file else { continue };
        let source = std::fs::read_to_string(templates().join(file)).unwrap();
        let token = |token: &Option<String>| token.clone().unwrap_or_default();
        match ChatTemplate::compile(source, &token(&chat.bos_token), &token(&chat.eos_token)) {
            Ok(template) => check(chat, &template, &mut failures),
            Err(error) => failures.push(format!("{file}: {error}")),
        }
        count += 1;
    }
    println!("{count} renderings compared");
    assert!(failures.is_empty(), "{} of {count} differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn tokenization_is_hugging_faces() {
    let Some(expected) = expected("tokenization") else { return };
    let tokenizer = Tokenizer::load(&common::demo_model()).unwrap();
    for Text { text, ids, ids_with_special, decoded, decoded_no_special } in &expected.texts {
        assert_eq!(tokenizer.encode(text, false).unwrap(), *ids, "{text:?}");
        assert_eq!(tokenizer.encode(text, true).unwrap(), *ids_with_special, "{text:?}");
        assert_eq!(tokenizer.decode(ids, false).unwrap(), *decoded, "{text:?}");
        assert_eq!(tokenizer.decode(ids, true).unwrap(), *decoded_no_special, "{text:?}");
    }
}

#[test]
fn streamed_text_is_the_text_decoded_at_once() {
    let tokenizer = Tokenizer::load(&common::demo_model()).unwrap();
    let texts = [
        "plain words",
        "👩‍👩‍👧 family, e\u{301} and 日本語",
        " \n\t  spaces  ",
        "مرحبا بالعالم",
        "a\u{0}b\u{7f}",
        "🙂🙃🙂",
    ];
    for text in texts {
        let ids = tokenizer.encode(text, false).unwrap();
        let mut stream = Detokenizer::default();
        let mut streamed: String = ids.iter().map(|&id| stream.push(id, &tokenizer).unwrap()).collect();
        streamed += &stream.finish(&tokenizer).unwrap();
        assert_eq!(streamed, tokenizer.decode(&ids, true).unwrap());
    }
}

#[test]
fn a_broken_template_is_an_error_that_names_it() {
    let error = ChatTemplate::compile("{% if %}".into(), "", "").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("chat_template"), "{error}");
    let endless = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
    let template = ChatTemplate::compile(endless.into(), "", "").unwrap();
    let message = Message { role: "user".into(), content: "hi".into() };
    assert!(template.render(&[message], true).is_err());
}
