//! Chat templates, rendered by minijinja as Hugging Face renders them by Jinja.

use super::Tokenizer;
use super::tokenizer::read_optional;
use crate::error::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value as Jinja, context};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// system, user, assistant, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A compiled template with the special tokens that it may print.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

const NAME: &str = "chat";

/// Instructions of one rendering: a conversation of 100,000 messages fits.
const FUEL: u64 = 100_000_000;

impl ChatTemplate {
    /// Finds a model's template: chat_template.jinja, or `chat_template` of tokenizer_config.json
    /// (a text, or a list of named ones of which "default" is taken). `None`: it has none.
    pub fn load(folder: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let file = folder.join("chat_template.jinja");
        let (file, source) = match std::fs::read_to_string(&file) {
            Ok(source) => (file, Some(source)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let file = folder.join("tokenizer_config.json");
                let source = in_settings(&file, &read_optional(&file)?)?;
                (file, source)
            }
            Err(error) => return Err(Error::bad_file(&file, error)),
        };
        let Some(source) = source else { return Ok(None) };
        let template = Self::compile(
            source,
            tokenizer.bos_token().unwrap_or_default(),
            tokenizer.eos_token().unwrap_or_default(),
        );
        template.map(Some).map_err(|error| Error::bad_file(&file, error))
    }

    /// Compiles a template's source.
    pub fn compile(source: String, bos_token: &str, eos_token: &str) -> Result<Self> {
        let mut environment = Environment::new();
        // Hugging Face sets these two; the templates are written for them.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| Error::Internal(error.to_string()))?);
        // A template that loops for ever is an error and not a hang.
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<(), _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function(
            "strftime_now",
            |format: String| -> std::result::Result<String, minijinja::Error> {
                use std::fmt::Write;
                let mut text = String::new();
                match write!(text, "{}", chrono::Local::now().format(&format)) {
                    Ok(()) => Ok(text),
                    Err(_) => Err(minijinja::Error::new(ErrorKind::InvalidOperation, "not a date format")),
                }
            },
        );
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| Error::BadModel(format!("`chat_template`: {error}")))?;
        Ok(ChatTemplate { environment, bos_token: bos_token.into(), eos_token: eos_token.into() })
    }

    /// The text of a conversation. With `add_generation_prompt` it ends where the assistant begins.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let template = self.environment.get_template(NAME).expect("added when compiled");
        let variables = context! {
            messages => Jinja::from(Serde(messages)),
            add_generation_prompt,
            // Hugging Face defines these two always; templates ask whether they are none.
            tools => (),
            documents => (),
            bos_token => &self.bos_token,
            eos_token => &self.eos_token,
        };
        template.render(variables).map_err(|error| {
            let why = error.detail().map_or_else(|| error.to_string(), str::to_string);
            Error::BadArgument(format!("the chat template refuses the conversation: {why}"))
        })
    }
}

/// Python's `json.dumps`, which puts a space behind commas and colons.
fn to_json(value: &Jinja) -> std::result::Result<Jinja, minijinja::Error> {
    struct Spaced;
    impl serde_json::ser::Formatter for Spaced {
        fn begin_array_value<W: ?Sized + std::io::Write>(
            &mut self,
            out: &mut W,
            first: bool,
        ) -> std::io::Result<()> {
            if first { Ok(()) } else { out.write_all(b", ") }
        }
        fn begin_object_key<W: ?Sized + std::io::Write>(
            &mut self,
            out: &mut W,
            first: bool,
        ) -> std::io::Result<()> {
            if first { Ok(()) } else { out.write_all(b", ") }
        }
        fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
            out.write_all(b": ")
        }
    }
    let mut out = vec![];
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Spaced);
    let failed = |error: String| minijinja::Error::new(ErrorKind::BadSerialization, error);
    value.serialize(&mut serializer).map_err(|error| failed(error.to_string()))?;
    String::from_utf8(out).map(Jinja::from_safe_string).map_err(|error| failed(error.to_string()))
}

fn in_settings(file: &Path, settings: &Value) -> Result<Option<String>> {
    let bad = || Error::bad_file(file, "`chat_template`: expected a text or a list of named ones");
    match settings.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(source)) => Ok(Some(source.clone())),
        Some(Value::Array(named)) => {
            let default = named.iter().find(|entry| entry["name"] == "default").or(named.first());
            let source = default.and_then(|entry| entry["template"].as_str()).ok_or_else(bad)?;
            Ok(Some(source.to_string()))
        }
        Some(_) => Err(bad()),
    }
}
