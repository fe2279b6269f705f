//! Jinja as Hugging Face sets it up for chat templates, by minijinja: the extra functions, and what
//! Python has and minijinja has not.

use super::jinja_limits::{check, has_state, items, kept, on_own_stack, text};
use super::jinja_source::{KEPT, prepare};
use super::python_json::{Style, float};
use crate::error::{self, Error as OurError};
use chrono::format::{Item, StrftimeItems};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};
use serde::Deserialize;

/// An environment without templates.
pub(super) fn environment() -> error::Result<Environment<'static>> {
    let mut environment = Environment::new();
    // Hugging Face sets these two; the templates are written for them.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| OurError::Internal(error.to_string()))?);
    environment.set_debug(false);
    environment.set_formatter(print);
    environment.set_unknown_method_callback(method);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter(KEPT, kept);
    environment.add_filter("items", items);
    environment.add_filter("string", |state: &State, value: &Value| -> Result<Value, Error> {
        Ok(if value.as_str().is_some() { value.clone() } else { Value::from(text(state, value)?) })
    });
    environment.add_filter("tojson", to_json);
    environment.add_filter("default", default);
    // Not Jinja's, and lazy.
    environment.remove_filter("chain");
    environment.remove_filter("zip");
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
    });
    Ok(environment)
}

/// Compiles a template.
pub(super) fn add(environment: &mut Environment<'static>, name: String, source: &str) -> Result<(), String> {
    on_own_stack(0, || {
        let source = prepare(source, environment.syntax());
        environment.add_template_owned(name, source).map_err(|error| error.to_string())
    })?
}

pub(super) fn failure(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

fn raise_exception(state: &State, message: &Value) -> Result<Value, Error> {
    Err(failure(text(state, message)?))
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
        _ if value.as_object().is_some() => {
            let text = Value::from(text(state, value)?);
            escape_formatter(out, state, &text)
        }
        _ => escape_formatter(out, state, value),
    }
}

/// Methods of texts that minijinja-contrib lacks.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        if has_state(value) {
            return Err(Error::from(ErrorKind::UnknownMethod));
        }
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
fn to_json(state: &State, value: &Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    type Arguments = (Option<Value>, Option<Value>, Option<Value>, Kwargs);
    let (ensure_ascii, indent, separators, named): Arguments = from_args(&arguments.into_values())?;
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
    check(state, value)?;
    let mut json = serde_json::to_value(value).map_err(|error| failure(error.to_string()))?;
    if sorted {
        json.sort_all_objects();
    }
    let mut text = String::new();
    Style { indent, item_separator, key_separator, ascii }.write(&json, 0, &mut text);
    Ok(Value::from(text))
}
