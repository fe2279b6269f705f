//! How Python prints values: chat templates are written for it.

use minijinja::Value;
use minijinja::value::ValueKind;
use serde_json::Value as Json;
use std::fmt::Write;

/// `str(value)`
pub(super) fn str(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_string(),
        None if value.is_undefined() => String::new(),
        None => {
            let mut text = String::new();
            repr(value, &mut text);
            text
        }
    }
}

/// `repr(value)`
fn repr(value: &Value, out: &mut String) {
    let list = |out: &mut String, write: &dyn Fn(&Value, &mut String)| {
        for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            write(&item, out);
        }
    };
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => match f64::try_from(value.clone()) {
            Ok(number) if !value.is_integer() => out.push_str(&float(number)),
            _ => out.push_str(&value.to_string()),
        },
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            out.push('[');
            list(out, &repr);
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            list(out, &|key, out| {
                repr(key, out);
                out.push_str(": ");
                repr(&value.get_item(key).unwrap_or_default(), out);
            });
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
}

/// `repr` of a text.
fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for char in text.chars() {
        let code = u32::from(char);
        // Rust and Python agree on what can be printed. Rust spares combining marks behind a letter.
        let printable = !format!("a{char}").escape_debug().to_string().starts_with("a\\u");
        let _ = match char {
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            '\\' => write!(out, "\\\\"),
            _ if char == quote => write!(out, "\\{char}"),
            _ if printable && char != '\0' => write!(out, "{char}"),
            _ if code < 0x100 => write!(out, "\\x{code:02x}"),
            _ if code < 0x10000 => write!(out, "\\u{code:04x}"),
            _ => write!(out, "\\U{code:08x}"),
        };
    }
    out.push(quote);
}

/// `repr` of a float: the shortest digits that give it back, with an exponent from 1e16 on and below
/// 1e-4.
fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific.to_lowercase(); // inf and nan
    };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ if number.fract() == 0.0 => format!("{number:.1}"),
        _ => number.to_string(),
    }
}

/// The arguments of `json.dumps`.
pub(super) struct JsonStyle {
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub ascii: bool,
}

impl JsonStyle {
    /// `json.dumps(value)`
    pub(super) fn write(&self, value: &Json, depth: usize, out: &mut String) {
        match value {
            Json::String(text) => self.write_text(text, out),
            Json::Number(number) => match number.as_f64() {
                Some(value) if number.is_f64() => out.push_str(&float(value)),
                _ => out.push_str(&number.to_string()),
            },
            Json::Array(values) if values.is_empty() => out.push_str("[]"),
            Json::Object(map) if map.is_empty() => out.push_str("{}"),
            Json::Array(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    self.begin_item(index, depth + 1, out);
                    self.write(value, depth + 1, out);
                }
                self.line(depth, out);
                out.push(']');
            }
            Json::Object(map) => {
                out.push('{');
                for (index, (key, value)) in map.iter().enumerate() {
                    self.begin_item(index, depth + 1, out);
                    self.write_text(key, out);
                    out.push_str(&self.key_separator);
                    self.write(value, depth + 1, out);
                }
                self.line(depth, out);
                out.push('}');
            }
            Json::Null | Json::Bool(_) => out.push_str(&value.to_string()),
        }
    }

    fn begin_item(&self, index: usize, depth: usize, out: &mut String) {
        out.push_str(if index > 0 { &self.item_separator } else { "" });
        self.line(depth, out);
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    }

    fn write_text(&self, text: &str, out: &mut String) {
        for char in Json::from(text).to_string().chars() {
            // serde_json escapes what Python escapes, but for what is no ASCII.
            match char {
                '\u{80}'.. if self.ascii => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                char => out.push(char),
            }
        }
    }
}
