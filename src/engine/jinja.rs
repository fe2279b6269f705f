//! Jinja as Hugging Face sets it up for chat templates, by minijinja: the extra functions, and what
//! Python has and minijinja has not.

use super::python_json::{Style, float};
use crate::error::{self, Error as OurError};
use chrono::format::{Item, StrftimeItems};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};
use serde::Deserialize;

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
    environment.set_unknown_method_callback(method);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", to_json);
    environment.add_filter("default", default);
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
    });
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
    Err(failure(message.to_string()))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let items = StrftimeItems::new(format).map(|item| match item {
        Item::Error => Err(failure(format!("{format:?} is not a date format"))),
        item => Ok(item),
    });
    let items = items.collect::<Result<Vec<_>, _>>()?;
    Ok(chrono::Local::now().format_with_items(items.iter()).to_string())
}

/// Floats as Python prints them; the rest minijinja prints so itself.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match f64::try_from(value.clone()) {
        Ok(number) if value.is_number() && !value.is_integer() => Ok(out.write_str(&float(number))?),
        _ => escape_formatter(out, state, value),
    }
}

/// Methods of texts that minijinja-contrib lacks.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args);
    };
    match name {
        "removeprefix" | "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            let cut = if name == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            Ok(Value::from(cut.unwrap_or(text)))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            let parts = text.split_once(separator).map(|(before, after)| [before, separator, after]);
            Ok(Value::from(Tuple::from(parts.unwrap_or([text, "", ""]).map(Value::from))))
        }
        "rsplit" => {
            let (separator, most): (&str, Option<usize>) = from_args(args)?;
            let most = most.map_or(usize::MAX, |most| most.saturating_add(1));
            let mut parts: Vec<Value> = text.rsplitn(most, separator).map(Value::from).collect();
            parts.reverse();
            Ok(Value::from(parts))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// Jinja's filter, whose arguments have names.
fn default(
    value: &Value,
    other: Option<Value>,
    boolean: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let other = other.or(named.get("default_value")?).unwrap_or_else(|| Value::from(""));
    let boolean = boolean.or(named.get("boolean")?).is_some_and(|boolean| boolean.is_true());
    named.assert_all_used()?;
    Ok(if value.is_undefined() || boolean && !value.is_true() { other } else { value.clone() })
}

/// Python's `json.dumps` with the arguments that Hugging Face's filter has; `sort_keys` by name only.
fn to_json(
    value: &Value,
    ensure_ascii: Option<Value>,
    indent: Option<Value>,
    separators: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let argument = |given: Option<Value>, name| -> Result<Option<Value>, Error> {
        Ok(given.or(named.get::<Option<Value>>(name)?).filter(|value| !value.is_none()))
    };
    let ascii = argument(ensure_ascii, "ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = argument(indent, "indent")?;
    let separators = argument(separators, "separators")?;
    let sorted = argument(None, "sort_keys")?.is_some_and(|value| value.is_true());
    named.assert_all_used()?;
    if value.is_undefined() {
        return Err(failure("Object of type Undefined is not JSON serializable"));
    }

    let indent = match indent {
        None => None,
        Some(indent) => Some(match (indent.as_str(), usize::try_from(indent.clone())) {
            (Some(text), _) => text.to_string(),
            (None, Ok(spaces)) if spaces <= 100 => " ".repeat(spaces),
            _ => return Err(failure(format!("tojson: indent is {indent}, expected 0 to 100 or a text"))),
        }),
    };
    let between = if indent.is_some() { "," } else { ", " };
    let (item_separator, key_separator) = match separators {
        None => (between.to_string(), ": ".to_string()),
        Some(pair) => <(String, String)>::deserialize(pair)
            .map_err(|_| failure("tojson: separators: expected two texts"))?,
    };
    let mut json = serde_json::to_value(value).map_err(|error| failure(error.to_string()))?;
    if sorted {
        json.sort_all_objects();
    }
    let mut text = String::new();
    Style { indent, item_separator, key_separator, ascii }.write(&json, 0, &mut text);
    Ok(Value::from(text))
}
