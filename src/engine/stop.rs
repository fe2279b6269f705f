//! Stop strings in streamed text.

/// Finds stop strings across pieces, holding back text that could still become one.
#[derive(Debug)]
pub(super) struct StopStrings {
    strings: Vec<String>,
    held: String,
}

impl StopStrings {
    pub fn new(strings: Vec<String>) -> Self {
        StopStrings { strings, held: String::new() }
    }

    /// The text that can be given out now, and whether a stop string came: then it and what follows
    /// is gone.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let found = self.strings.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(start) = found {
            let mut before = std::mem::take(&mut self.held);
            before.truncate(start);
            return (before, true);
        }
        let keep = self.strings.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = text.char_indices().map(|(start, _)| start);
    let fits = |&start: &usize| text.len() - start < stop.len() && stop.starts_with(&text[start..]);
    starts
        .skip_while(|start| text.len() - start >= stop.len())
        .find(fits)
        .map_or(0, |start| text.len() - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopStrings::new(stops.iter().map(|s| s.to_string()).collect());
        let mut out = String::new();
        for piece in pieces {
            let (text, hit) = matcher.push(piece);
            out += &text;
            if hit {
                return (out, true);
            }
        }
        (out + &matcher.finish(), false)
    }

    #[test]
    fn finds_a_stop_string_across_pieces() {
        assert_eq!(feed(&["END"], &["abcE", "N", "Dxyz"]), ("abc".into(), true));
    }

    #[test]
    fn gives_back_what_only_looked_like_one() {
        assert_eq!(feed(&["END"], &["abE", "Nab", "EN"]), ("abENabEN".into(), false));
    }

    #[test]
    fn takes_the_earliest_of_several() {
        assert_eq!(feed(&["cd", "b"], &["abcd"]), ("a".into(), true));
    }

    #[test]
    fn never_splits_a_character() {
        assert_eq!(feed(&["日本"], &["x日", "曜"]), ("x日曜".into(), false));
    }

    #[test]
    fn restarts_inside_a_partial_match() {
        assert_eq!(feed(&["aab"], &["a", "a", "a", "b"]), ("a".into(), true));
    }
}
