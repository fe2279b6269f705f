//! What a chat template may cost: templates come with models, and a broken or hostile one must end in an
//! error, not in a process without memory or stack.
//!
//! minijinja 3.1 has no limit where `~`, comparisons and some filters walk through values that share their
//! parts (`{% set x = [x, x] %}`, many times) or repeat them (`['a'] * 99999999`).

use super::jinja::failure;
use minijinja::value::ObjectRepr;
use minijinja::{Environment, Error, ErrorKind, State, Value};
use std::fmt::{self, Write};

/// minijinja counts an instruction, or 64 bytes that are made, as one unit of fuel. So this is 16 MiB;
/// the templates of real models need some 60 units a message.
const FUEL: u64 = 1 << 18;

/// Units for each pair of messages: Gemma 4's template looks at all earlier messages before each one.
const FUEL_PER_PAIR: u64 = 8;
/// ... up to a thousand messages, as the fuel bounds the memory too.
const MOST_FOR_PAIRS: u64 = 1 << 22;

/// Bytes that a unit of fuel pays for.
const BYTES: u64 = 64;

/// The smallest nesting that costs a unit: `[x]` costs one and a half, `{'a': x}` three. Comparing and
/// printing recurse, by 540 bytes of stack a level at most (measured on x86-64).
const STACK_PER_FUEL: u64 = 512;

/// How deep JSON, and what a namespace holds, may be nested. Python's own `json` ends at about 1000.
const DEPTH: usize = 128;

/// Renders on a thread whose stack holds what the fuel can nest. `given` is the size of what the template
/// is given, in bytes, with [`BYTES`] for each value; each pays for half a unit more. So it makes 16 MiB of
/// values and text at most, 32 times what it is given, and 256 MiB for a thousand messages.
pub(super) fn render(
    environment: &Environment<'static>,
    name: &str,
    messages: usize,
    given: u64,
    variables: Value,
) -> Result<String, String> {
    let mut environment = environment.clone();
    let pairs = (messages as u64).saturating_mul(messages as u64) / 2;
    let pairs = pairs.saturating_mul(FUEL_PER_PAIR).min(MOST_FOR_PAIRS);
    let fuel = (FUEL + pairs).saturating_add(given / 2);
    environment.set_fuel(Some(fuel));
    on_own_stack(fuel.saturating_mul(STACK_PER_FUEL), move || {
        let template = environment.get_template(name).map_err(|error| reason(&error))?;
        template.render(variables).map_err(|error| reason(&error))
    })?
}

/// Runs with so much stack and some more, however little the caller's thread has: the parser, which ends at
/// 150 levels, needs more than half a megabyte.
pub(super) fn on_own_stack<T: Send>(bytes: u64, run: impl FnOnce() -> T + Send) -> Result<T, String> {
    let bytes = usize::try_from(bytes.saturating_add(8 << 20)).unwrap_or(usize::MAX);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mlxrt-template".into()).stack_size(bytes);
        let thread = thread.spawn_scoped(scope, run).map_err(|error| format!("no thread for it: {error}"))?;
        thread.join().map_err(|payload| crate::error::Error::from_panic(&*payload).to_string())
    })
}

/// What a failed rendering says: a template's own words where it raised them.
fn reason(error: &Error) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_string)
}

/// A value's text, unless there is no fuel for it: values share their parts, so a small one may be a
/// text without end.
pub(super) fn text(state: &State, value: &Value) -> Result<String, Error> {
    let mut text = Limited { text: String::new(), left: bytes_left(state) };
    match write!(text, "{value}") {
        Ok(()) => Ok(text.text),
        Err(_) => Err(Error::from(ErrorKind::OutOfFuel)),
    }
}

struct Limited {
    text: String,
    left: u64,
}

impl Write for Limited {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        self.left = self.left.checked_sub(more.len() as u64).ok_or(fmt::Error)?;
        self.text.push_str(more);
        Ok(())
    }
}

/// What the fuel that is left pays for.
fn bytes_left(state: &State) -> u64 {
    state.fuel_levels().map_or(FUEL, |(_, left)| left).saturating_mul(BYTES)
}

/// A value that can be walked through: not nested too deep, and not without end.
pub(super) fn check(state: &State, value: &Value) -> Result<(), Error> {
    walk(value, DEPTH, &mut bytes_left(state), &|_| Ok(()))
}

/// The filter [`super::jinja_source::KEPT`]: as `check`, and no namespace in it.
pub(super) fn kept(state: &State, value: &Value) -> Result<Value, Error> {
    walk(value, DEPTH, &mut bytes_left(state), &|value| {
        if has_state(value) { Err(failure("a namespace cannot hold a namespace or a loop")) } else { Ok(()) }
    })?;
    Ok(value.clone())
}

/// Namespaces and loops change after they are stored.
pub(super) fn has_state(value: &Value) -> bool {
    let name = value.as_object().map_or("", |object| object.type_name());
    name.ends_with("::Namespace") || name.ends_with("::Loop")
}

fn walk(
    value: &Value,
    depth: usize,
    left: &mut u64,
    look: &dyn Fn(&Value) -> Result<(), Error>,
) -> Result<(), Error> {
    look(value)?;
    let cost = BYTES + value.as_str().map_or(0, |text| text.len() as u64);
    *left = left.checked_sub(cost).ok_or_else(|| Error::from(ErrorKind::OutOfFuel))?;
    let Some(object) = value.as_object() else { return Ok(()) };
    if object.repr() == ObjectRepr::Plain {
        return Ok(());
    }
    let depth = depth.checked_sub(1).ok_or_else(|| failure(format!("values are nested {DEPTH} deep")))?;
    if object.repr() == ObjectRepr::Map {
        for (key, value) in object.try_iter_pairs().into_iter().flatten() {
            walk(&key, depth, left, look)?;
            walk(&value, depth, left, look)?;
        }
        return Ok(());
    }
    object.try_iter().into_iter().flatten().try_for_each(|value| walk(&value, depth, left, look))
}

/// minijinja's filter, with Python's view of what a mapping is.
pub(super) fn items(value: &Value) -> Result<Value, Error> {
    if has_state(value) {
        return Err(failure("Can only get item pairs from a mapping."));
    }
    minijinja::filters::items(value)
}
