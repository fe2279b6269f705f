//! Jinja as Hugging Face sets it up for chat templates, by minijinja: the extra functions, and what
//! Python prints where minijinja prints otherwise.

use super::python::{self, JsonStyle};
use crate::error::{self, Error as OurError};
use chrono::format::{Item, StrftimeItems};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

/// Instructions of one rendering: a conversation of 100,000 messages fits. A template that loops for
/// ever is an error and not a hang.
const FUEL: u64 = 100_000_000;

/// An environment without templates.
pub(super) fn environment() -> error::Result<Environment<'static>> {
    let mut environment = Environment::new();
    // Hugging Face sets these two; the templates are written for them.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| OurError::Internal(error.to_string()))?);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(print);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", to_json);
    environment.add_filter("string", |value: &Value| Value::from(python::str(value)));
    Ok(environment)
}

/// Hugging Face's `{% generation %}` marks what an assistant wrote, for training. Rendering takes it
/// for a scope.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        text.push_str(before);
        rest = tag;
        let (inside, _) = tag.split_once("%}").unwrap_or_default();
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        if word == "generation" || word == "endgeneration" {
            text.push_str(&inside.replace("generation", "with"));
            rest = &tag[inside.len()..];
        }
    }
    text + rest
}

/// What a failed rendering says: a template's own words where it raised them.
pub(super) fn reason(error: &Error) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_string)
}

fn failure(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(failure(python::str(message)))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let items = StrftimeItems::new(format).map(|item| match item {
        // C prints what it doesn't know as it stands.
        Item::Error => Err(failure(format!("{format:?} is not a date format"))),
        item => Ok(item),
    });
    let items = items.collect::<Result<Vec<_>, _>>()?;
    Ok(chrono::Local::now().format_with_items(items.iter()).to_string())
}

/// `{{ value }}`
fn print(out: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    let written = match value.as_str() {
        Some(text) => out.write_str(text),
        None => out.write_str(&python::str(value)),
    };
    written.map_err(Error::from)
}

/// Python's `json.dumps` with the arguments that Hugging Face's filter has.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(failure("Object of type Undefined is not JSON serializable"));
    }
    let mut json = serde_json::to_value(value).map_err(|error| failure(error.to_string()))?;
    if options.get::<Option<bool>>("sort_keys")?.unwrap_or(false) {
        json.sort_all_objects();
    }
    let indent = match options.get::<Option<Value>>("indent")?.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match (indent.as_str(), usize::try_from(indent.clone())) {
            (Some(text), _) => text.to_string(),
            (None, Ok(spaces)) if spaces <= 100 => " ".repeat(spaces),
            _ => return Err(failure(format!("tojson: indent is {indent}, expected 0 to 100 or a text"))),
        }),
    };
    let (item_separator, key_separator) = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        Some([items, keys]) => (items.clone(), keys.clone()),
        Some(_) => return Err(failure("tojson: separators: expected two texts")),
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    options.assert_all_used()?;
    let mut text = String::new();
    JsonStyle { indent, item_separator, key_separator, ascii }.write(&json, 0, &mut text);
    Ok(Value::from(text))
}
