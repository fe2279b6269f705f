//! JSON as Python's `json.dumps` writes it: chat templates hold it against what models were trained on.

use super::plain_text::TEXT_MARK;
use serde_json::Value as Json;
use std::fmt::Write;

/// `repr` of a float: the shortest digits that give it back, with an exponent from 1e16 on and below
/// 1e-4.
pub(super) fn float(number: f64) -> String {
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
pub(super) struct Style {
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub ascii: bool,
}

impl Style {
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
                '\u{7f}'.. if self.ascii && char != TEXT_MARK => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                char => out.push(char),
            }
        }
    }
}
