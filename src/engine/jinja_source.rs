//! What is changed in a chat template's source before minijinja compiles it.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

/// The filter that sees what a namespace is given.
pub(super) const KEPT: &str = "_kept";
const END: &str = ")|_kept ";

/// Hugging Face's `{% generation %}` marks what an assistant wrote, for training: here it is a scope.
/// `{% set ns.x = value %}` becomes `{% set ns.x = (value)|_kept %}`: only namespaces outlive a round of a
/// loop, so only in them values can grow without end, or into a circle.
pub(super) fn prepare(source: &str, syntax: &SyntaxConfig) -> String {
    let mut changes = vec![];
    let (mut begins, mut set) = (false, Set::No);
    for token in tokenize(source, false, syntax.clone()) {
        // What does not tokenize does not compile either.
        let Ok((token, span)) = token else { break };
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        let tag = matches!(token, Token::BlockStart);
        set = match (token, set) {
            (Token::Ident("generation"), _) if begins => replace(&mut changes, start..end, "with", Set::No),
            (Token::Ident("endgeneration"), _) if begins => {
                replace(&mut changes, start..end, "endwith", Set::No)
            }
            (Token::Ident("set"), _) if begins => Set::Target,
            (Token::Dot, Set::Target) => Set::Attribute,
            (Token::Pipe, Set::Attribute) => Set::No,
            (Token::Assign, Set::Attribute) => replace(&mut changes, end..end, "(", Set::Value),
            (Token::BlockEnd, Set::Value) => replace(&mut changes, start..start, END, Set::No),
            (Token::BlockStart | Token::BlockEnd, _) => Set::No,
            (_, set) => set,
        };
        begins = tag;
    }
    let mut text = source.to_string();
    changes.into_iter().rev().for_each(|(range, new)| text.replace_range(range, new));
    text
}

/// How far a `set` tag was read.
#[derive(Clone, Copy)]
enum Set {
    No,
    Target,
    /// A target with a dot.
    Attribute,
    Value,
}

type Change = (std::ops::Range<usize>, &'static str);

fn replace(changes: &mut Vec<Change>, range: std::ops::Range<usize>, new: &'static str, then: Set) -> Set {
    changes.push((range, new));
    then
}
