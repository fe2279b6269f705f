//! Chat templates that want all memory, time or stack. This is a target of its own: it counts all memory.

#[path = "common/allocations.rs"]
mod allocations;

use allocations::{HELD, MOST};
use mlxrt::engine::{ChatTemplate, Conversation};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What a thread of another language may have.
const SMALL_STACK: usize = 256 << 10;
const MOST_MEMORY: usize = 64 << 20;

/// Renders with little stack; what came of it, and the memory that it took.
fn render(template: &str, message: &str) -> (Result<String, String>, usize) {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    let rendered = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(SMALL_STACK);
        let render = || {
            let template = ChatTemplate::compile(template, Default::default())?;
            template.render(&Conversation::new([("user", message)]))
        };
        thread.spawn_scoped(scope, render).unwrap().join().unwrap()
    });
    (rendered.map_err(|error| error.to_string()), MOST.load(Relaxed).saturating_sub(before))
}

/// `round` for ever, with a namespace to keep things in.
fn endless(round: &str) -> String {
    let start = "{% set ns = namespace(x=[], y=[], s='ab', n=0) %}{% set other = namespace(x=[]) %}";
    format!(
        "{start}{{% for i in range(99999) %}}{{% for j in range(99999) %}}{round}{{% endfor %}}{{% endfor %}}"
    )
}

/// `x` in brackets, on in brackets ..., by ordinary variables: as deep as the fuel lets it be.
fn deep(open: &str, close: &str, times: usize, then: &str) -> String {
    let nest = |name: &str| format!("{{% set {name} = {}{name}{} %}}", open.repeat(60), close.repeat(60));
    format!("{{% set x = [] %}}{{% set y = [] %}}{}{then}", (nest("x") + &nest("y")).repeat(times))
}

/// A small value whose text has no end.
fn shared(then: &str) -> String {
    format!("{{% set x = [1] %}}{}{then}", "{% set x = [x, x] %}".repeat(60))
}

#[test]
fn hostile_templates_end_in_errors() {
    let (fuel, namespace) = ("out of fuel", "cannot hold a namespace");
    let in_a_loop =
        "{% set ns = namespace() %}{% for a in [1, 2, ns, 3] %}{% set ns.x = loop %}{% endfor %}{{ ns }}";
    let cases = [
        ("time", endless(""), fuel),
        ("text", endless("{% set ns.s = ns.s ~ ns.s %}"), fuel),
        ("a block", endless("{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}"), fuel),
        ("output", endless("{{ messages[0].content }}"), fuel),
        ("lists", endless("{% set ns.x = ns.x + ['abc' ~ j] %}"), fuel),
        ("lists of lists", endless("{% set ns.x = [ns.x] %}"), "nested 128 deep"),
        ("lists with spaces", endless("{%- set ns.x=[ns.x]-%}"), "nested 128 deep"),
        ("maps of maps", endless("{% set ns.x, ns.y = {'a': ns.x}, {'b': ns.y} %}"), "nested 128 deep"),
        ("shared parts", endless("{% set ns.x = [ns.x, ns.x] %}"), fuel),
        ("shared parts as text", endless("{% set ns.x = [ns.x, ns.x] %}{{ ns.x ~ '' }}"), fuel),
        (
            "shared parts compared",
            endless("{% set ns.x, ns.y = [ns.x, ns.x], [ns.y, ns.y] %}{{ ns.x == ns.y }}"),
            fuel,
        ),
        ("a circle", endless("{% set ns.x = ns %}{{ ns ~ '' }}"), namespace),
        ("a circle in a list", endless("{% set ns.x = [{'a': ns}] %}{{ ns == other }}"), namespace),
        ("a circle of two", endless("{% set other.x = ns %}{% set ns.x = other %}{{ ns }}"), namespace),
        ("a circle by a loop", in_a_loop.into(), namespace),
        ("a circle by a method", endless("{% set ns.x = ns.values() %}{{ ns ~ '' }}"), "method"),
        ("a circle by a filter", endless("{% set ns.x = ns | items %}{{ ns ~ '' }}"), "item pairs"),
        ("JSON of shared parts", shared("{{ x | tojson }}"), fuel),
        ("shared parts printed", shared("{{ x }}"), fuel),
        ("shared parts raised", shared("{{ raise_exception(x) }}"), fuel),
        ("shared parts as a filter's text", shared("{{ x | string }}"), fuel),
        ("deep JSON", deep("[", "]", 9, "{{ x | tojson }}"), "nested 128 deep"),
        ("a long text repeated", "{{ 'abcdefgh' * 99999999 }}".into(), fuel),
        ("a long list printed", "{{ ['abcdefgh' * 999] * 9999999 }}".into(), fuel),
        ("replace", "{{ messages[0].content.replace('', messages[0].content) }}".into(), fuel),
        ("recursion", "{% macro f(x) %}{{ f([x, x]) }}{% endmacro %}{{ f([]) }}".into(), "recursion"),
    ];
    let message = "abc ".repeat(1000);
    for (name, template, expected) in &cases {
        let started = Instant::now();
        let (rendered, memory) = render(template, &message);
        let took = started.elapsed();
        println!("{name}: {} MB, {took:?}", memory >> 20);
        let error = rendered.map(|text| text.len()).expect_err(name);
        assert!(error.contains(expected), "{name}: {error}");
        assert!(memory <= MOST_MEMORY, "{name}: {memory} bytes");
        assert!(took < Duration::from_secs(60), "{name}: {took:?}");
    }
    // Deep values that are allowed: the stack holds them.
    for (open, close, times) in [("[", "]", 1000), ("{'a': ", "}", 400), ("(", ",)", 800)] {
        for then in [
            "",
            "{{ x == y }}",
            "{{ x < y }}",
            "{{ x ~ '' }}",
            "{{ x }}",
            "{{ {x: 1} }}",
            "{{ [x, y] | sort }}",
        ] {
            let (rendered, memory) = render(&deep(open, close, times, then), &message);
            assert!(rendered.is_ok(), "{open} {then}: {rendered:?}");
            assert!(memory <= MOST_MEMORY, "{open} {then}: {memory} bytes");
        }
    }
    // What is large because the conversation is large is fine.
    let everything = "{% for m in messages %}{{ m.content | trim }}{{ m | tojson }}{% endfor %}";
    let (rendered, _) = render(everything, &"abc ".repeat(4 << 20));
    assert_eq!(rendered.unwrap().len(), (4 << 20) * 8 - 1 + "{\"role\": \"user\", \"content\": \"\"}".len());
}

#[test]
fn what_becomes_of_set_is_what_was_written() {
    for (template, expected) in [
        ("{% set ns = namespace(a=1) %}{%- set ns.a = 2, 3 -%} {{ ns.a[1] }}", "3"),
        ("{% set ns = namespace(a=1) %}{% set ns.a = 'y' if ns.a == 1 else 'n' %}{{ ns.a }}", "y"),
        ("{% set ns = namespace(a=1) %}{% set ns.a %}x{{ 1 }}{% endset %}{{ ns.a }}", "x1"),
        (
            "{% set ns = namespace(a=1) %}{% set ns.a | default(default_value=1) %}x{% endset %}{{ ns.a }}",
            "x",
        ),
        ("{# {% set ns.a = #}{{ '{% set ns.a = 1 %}' }}", "{% set ns.a = 1 %}"),
        ("{% raw %}{% set ns.a = 1 %}{% endraw %}", "{% set ns.a = 1 %}"),
        ("{%- generation -%} a {%- endgeneration -%}", "a"),
        ("{% set ns = namespace() %}{% set ns.a = nothing %}{{ ns.a is defined }}", "False"),
    ] {
        let (rendered, _) = render(template, "");
        assert_eq!(rendered.as_deref(), Ok(expected), "{template}");
    }
}
