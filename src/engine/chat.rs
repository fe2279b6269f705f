//! Chat templates: which one a model has, and what it is given.

use super::tokenizer::read_optional;
use super::{Encoding, Tokenizer, jinja, jinja_limits};
use crate::error::{Error, Result};
use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde_json::{Map, Value};
use std::path::Path;

/// The variables that are not the caller's to set.
const RESERVED: [&str; 3] = ["messages", "tools", "add_generation_prompt"];

/// The names under which assistants' thoughts are passed; templates read the first two.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// What a template makes into text.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// One object each, as OpenAI's interface has them: `role`, `content`, and what else the template
    /// knows, such as `tool_calls`, `tool_call_id`, `name` and `reasoning_content`.
    pub messages: Vec<Value>,
    /// One object each. `None` is not the same to a template as an empty list.
    pub tools: Option<Vec<Value>>,
    /// Further variables, such as `enable_thinking`. They stand in for special tokens of that name.
    pub variables: Map<String, Value>,
    /// Whether the text ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
}

impl Conversation {
    /// Plain messages, at whose end the assistant is to answer.
    pub fn new<'a>(messages: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let message = |(role, content)| serde_json::json!({ "role": role, "content": content });
        let messages = messages.into_iter().map(message).collect();
        Conversation { messages, add_generation_prompt: true, ..Default::default() }
    }

    /// Checks what every template may rely on.
    fn check(&self) -> Result<()> {
        if self.messages.is_empty() {
            return Err(Error::BadArgument("the conversation has no messages".into()));
        }
        let lists = [("messages", &self.messages[..]), ("tools", self.tools.as_deref().unwrap_or_default())];
        for (name, list) in lists {
            if let Some(index) = list.iter().position(|entry| !entry.is_object()) {
                return Err(Error::BadArgument(format!("{name}[{index}]: expected an object")));
            }
        }
        match RESERVED.iter().find(|&&name| self.variables.contains_key(name)) {
            Some(name) => Err(Error::BadArgument(format!("variables: `{name}` is not a variable to set"))),
            None => Ok(()),
        }
    }

    /// Applies `change` to every text in it, keys of objects too: templates print them as JSON.
    fn for_each_text(&mut self, change: &dyn Fn(&mut String) -> Result<()>) -> Result<()> {
        let mut lists = self.messages.iter_mut().chain(self.tools.iter_mut().flatten());
        lists.try_for_each(|value| each_text(value, change))?;
        self.variables.values_mut().try_for_each(|value| each_text(value, change))
    }
}

fn each_text(value: &mut Value, change: &dyn Fn(&mut String) -> Result<()>) -> Result<()> {
    match value {
        Value::String(text) => change(text),
        Value::Array(values) => values.iter_mut().try_for_each(|value| each_text(value, change)),
        Value::Object(map) => {
            for (mut key, mut value) in std::mem::take(map) {
                change(&mut key)?;
                each_text(&mut value, change)?;
                map.insert(key, value);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A model's templates, compiled, with the special tokens that they may print.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Map<String, Value>,
}

/// The folder in which Hugging Face keeps templates beside the default one.
pub(super) const TEMPLATES: &str = "additional_chat_templates";

const DEFAULT: &str = "default";
/// The template that is taken when there are tools.
const TOOL_USE: &str = "tool_use";

impl ChatTemplate {
    /// Finds a model's templates where Hugging Face looks for them: chat_template.jinja and those in its
    /// folder for others, else `chat_template` of tokenizer_config.json (a text, or a list of named ones), else
    /// chat_template.json. `None`: it has none.
    pub fn load(folder: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let mut found = vec![];
        for (name, file) in [
            (DEFAULT, folder.join("chat_template.jinja")),
            (DEFAULT, folder.join(TEMPLATES).join("default.jinja")),
            (TOOL_USE, folder.join(TEMPLATES).join("tool_use.jinja")),
        ] {
            match std::fs::read_to_string(&file) {
                Ok(source) => found.push((name.to_string(), source, file)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::bad_file(&file, error)),
            }
        }
        for file in ["tokenizer_config.json", "chat_template.json"] {
            let file = folder.join(file);
            if found.is_empty() {
                let named = in_settings(&file, &read_optional(&file)?)?;
                found.extend(named.into_iter().map(|(name, source)| (name, source, file.clone())));
            }
        }
        if found.is_empty() {
            return Ok(None);
        }
        let mut template = ChatTemplate::empty(tokenizer.special_tokens().clone())?;
        for (name, source, file) in found {
            template.add(name, &source).map_err(|error| Error::bad_file(&file, error))?;
        }
        Ok(Some(template))
    }

    /// Compiles a template's source.
    pub fn compile(source: &str, special_tokens: Map<String, Value>) -> Result<Self> {
        let mut template = ChatTemplate::empty(special_tokens)?;
        template.add(DEFAULT.into(), source)?;
        Ok(template)
    }

    fn empty(special_tokens: Map<String, Value>) -> Result<Self> {
        Ok(ChatTemplate { environment: jinja::environment()?, special_tokens })
    }

    fn add(&mut self, name: String, source: &str) -> Result<()> {
        let added = jinja::add(&mut self.environment, name, source);
        added.map_err(|error| Error::BadModel(format!("`chat_template`: {error}")))
    }

    /// The ids of a conversation's text. With `plain_text`, special tokens written in messages, tools
    /// and variables are text; only those of the template itself are special.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        mut conversation: Conversation,
        plain_text: bool,
    ) -> Result<Vec<i32>> {
        // The template writes the special tokens itself, so none are added.
        if !plain_text {
            return tokenizer.encode(&self.render(&conversation)?, Encoding::default());
        }
        conversation.for_each_text(&|text| tokenizer.mark(text))?;
        tokenizer.encode_marked(&self.render(&conversation)?)
    }

    /// The text of a conversation.
    pub fn render(&self, conversation: &Conversation) -> Result<String> {
        conversation.check()?;
        let tools = conversation.tools.as_ref();
        let has = |name| self.environment.get_template(name).is_ok();
        let name = if tools.is_some() && has(TOOL_USE) { TOOL_USE } else { DEFAULT };
        if !has(name) {
            let why = "the model has several chat templates, none is named \"default\"";
            return Err(Error::Unsupported(why.into()));
        }
        let messages: Vec<Value> = conversation.messages.iter().map(as_templates_expect).collect();
        let mut variables = self.special_tokens.clone();
        variables.extend(conversation.variables.clone());
        // Hugging Face defines these two always; templates ask whether they are none.
        variables.entry("documents").or_insert(Value::Null);
        let lists = messages.iter().chain(conversation.tools.iter().flatten());
        let given = lists.chain(variables.values()).map(size).sum();
        let count = messages.len();
        let variables = context! {
            messages => Serde(messages),
            tools => Serde(tools),
            add_generation_prompt => conversation.add_generation_prompt,
            ..minijinja::Value::from(Serde(variables))
        };
        jinja_limits::render(&self.environment, name, count, given, variables).map_err(|error| {
            Error::BadArgument(format!("the chat template refuses the conversation: {error}"))
        })
    }
}

/// Bytes of a value, as [`jinja_limits::render`] counts them.
fn size(value: &Value) -> u64 {
    64 + match value {
        Value::String(text) => text.len() as u64,
        Value::Array(values) => values.iter().map(size).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| 64 + key.len() as u64 + size(value)).sum(),
        _ => 0,
    }
}

/// A message as Hugging Face hands it to templates: without nulls, which they would print, and with
/// an assistant's thoughts under each name that a template may read.
fn as_templates_expect(message: &Value) -> Value {
    let mut fields = message.as_object().cloned().unwrap_or_default();
    fields.retain(|_, value| !value.is_null());
    if let Some(thoughts) = REASONING.iter().find_map(|name| fields.get(*name)).cloned() {
        let mut first = Map::new();
        first.insert("thinking".into(), thoughts.clone());
        first.extend(fields);
        first.insert("reasoning_content".into(), thoughts);
        fields = first;
    }
    Value::Object(fields)
}

/// The templates that `chat_template` names.
fn in_settings(file: &Path, settings: &Value) -> Result<Vec<(String, String)>> {
    let bad = || Error::bad_file(file, "`chat_template`: expected a text or a list of named ones");
    match settings.get("chat_template") {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::String(source)) => Ok(vec![(DEFAULT.into(), source.clone())]),
        Some(Value::Array(list)) => {
            let text = |entry: &Value, key| entry.get(key)?.as_str().map(str::to_string);
            let named = |entry| Some((text(entry, "name")?, text(entry, "template")?));
            list.iter().map(|entry| named(entry).ok_or_else(bad)).collect()
        }
        Some(_) => Err(bad()),
    }
}
