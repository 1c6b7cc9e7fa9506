//! Symbols and colours, in one place.

use std::borrow::Cow;

use crate::event::Outcome;

/// How output looks: with colours or without, with symbols or with letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    colour: bool,
    unicode: bool,
}

/// A meaning that has a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it comes.
    Plain,
    /// A heading.
    Strong,
    /// Of little weight.
    Dim,
    /// Good.
    Good,
    /// Good, and nothing had to be done.
    Same,
    /// At work.
    Busy,
    /// Kept from its work.
    Held,
    /// The work said no.
    Bad,
    /// The infrastructure said no.
    Broken,
}

impl Style {
    /// A style; `colour` allows escape sequences, `unicode` anything beyond ASCII.
    pub const fn new(colour: bool, unicode: bool) -> Self {
        Self { colour, unicode }
    }

    /// Neither colours nor symbols.
    pub const fn ascii() -> Self {
        Self::new(false, false)
    }

    /// Whether colours are on.
    pub const fn has_colour(self) -> bool {
        self.colour
    }

    /// Whether symbols beyond ASCII are on.
    pub const fn has_unicode(self) -> bool {
        self.unicode
    }

    /// A text in the colour of a meaning.
    pub fn paint(self, tone: Tone, text: &str) -> Cow<'_, str> {
        let code = match tone {
            _ if !self.colour || text.is_empty() => return Cow::Borrowed(text),
            Tone::Plain => return Cow::Borrowed(text),
            Tone::Strong => "1",
            Tone::Dim => "90",
            Tone::Good => "32",
            Tone::Same => "36",
            Tone::Busy => "34",
            Tone::Held => "33",
            Tone::Bad => "31",
            Tone::Broken => "35",
        };
        Cow::Owned(format!("\u{1b}[{code}m{text}\u{1b}[0m"))
    }

    /// The colour of an outcome.
    pub const fn tone(self, outcome: Outcome) -> Tone {
        match outcome {
            Outcome::Succeeded => Tone::Good,
            Outcome::UpToDate => Tone::Same,
            Outcome::Skipped => Tone::Dim,
            Outcome::Blocked => Tone::Held,
            Outcome::Failed => Tone::Bad,
            Outcome::Errored => Tone::Broken,
            Outcome::TimedOut => Tone::Broken,
            Outcome::Cancelled => Tone::Held,
        }
    }

    /// The symbol of an outcome, one column wide.
    pub const fn symbol(self, outcome: Outcome) -> &'static str {
        match (outcome, self.unicode) {
            (Outcome::Succeeded, true) => "✓",
            (Outcome::Succeeded, false) => "+",
            (Outcome::UpToDate, _) => "=",
            (Outcome::Skipped, true) => "○",
            (Outcome::Skipped, false) => "-",
            (Outcome::Blocked, true) => "⊘",
            (Outcome::Blocked, false) => "#",
            (Outcome::Failed, true) => "✗",
            (Outcome::Failed, false) => "x",
            (Outcome::Errored, _) => "!",
            (Outcome::TimedOut, true) => "◷",
            (Outcome::TimedOut, false) => "T",
            (Outcome::Cancelled, true) => "■",
            (Outcome::Cancelled, false) => "%",
        }
    }

    /// The symbol of something at work; `beat` makes it turn.
    pub const fn busy(self, beat: usize) -> &'static str {
        const ROUND: [&str; 8] = ["⣾", "⣽", "⣻", "⢿", "⡿", "⣟", "⣯", "⣷"];
        const ASCII: [&str; 4] = ["|", "/", "-", "\\"];
        if self.unicode {
            ROUND[beat % ROUND.len()]
        } else {
            ASCII[beat % ASCII.len()]
        }
    }

    /// The symbol of something at work that does not turn.
    pub const fn running(self) -> &'static str {
        if self.unicode { "▶" } else { ">" }
    }

    /// The symbol of something that waits for a place.
    pub const fn waiting(self) -> &'static str {
        if self.unicode { "◇" } else { "?" }
    }

    /// The symbol of something that has not begun.
    pub const fn pending(self) -> &'static str {
        if self.unicode { "·" } else { "." }
    }

    /// What a cut text ends in.
    pub const fn ellipsis(self) -> &'static str {
        if self.unicode { "…" } else { "..." }
    }

    /// What stands before a line of a log.
    pub const fn gutter(self) -> &'static str {
        if self.unicode { "│" } else { "|" }
    }

    /// What stands between things that follow each other.
    pub const fn arrow(self) -> &'static str {
        if self.unicode { "→" } else { "->" }
    }

    /// A bar of a number of columns, filled to a share of `done` of `total`.
    pub fn bar(self, done: u64, total: u64, columns: usize) -> String {
        let (full, empty) = if self.unicode {
            ("━", "╌")
        } else {
            ("#", ".")
        };
        let share = u128::from(done.min(total)) * columns as u128 / u128::from(total.max(1));
        let filled = usize::try_from(share).unwrap_or(columns).min(columns);
        format!("{}{}", full.repeat(filled), empty.repeat(columns - filled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;

    #[test]
    fn symbols_are_distinct_and_one_column() {
        for style in [Style::ascii(), Style::new(false, true)] {
            let mut seen = std::collections::BTreeSet::new();
            for outcome in Outcome::ALL {
                let symbol = style.symbol(outcome);
                assert_eq!(text::width(symbol), 1, "{symbol}");
                assert!(seen.insert(symbol), "{symbol} stands for two outcomes");
            }
            for symbol in [style.running(), style.waiting(), style.pending()] {
                assert_eq!(text::width(symbol), 1, "{symbol}");
                assert!(seen.insert(symbol), "{symbol} stands for two things");
            }
        }
        assert!(
            Outcome::ALL
                .iter()
                .all(|o| Style::ascii().symbol(*o).is_ascii())
        );
    }

    #[test]
    fn colours_can_be_off() {
        assert_eq!(Style::ascii().paint(Tone::Bad, "no"), "no");
        assert_eq!(
            Style::new(true, true).paint(Tone::Bad, "no"),
            "\u{1b}[31mno\u{1b}[0m"
        );
    }

    #[test]
    fn bars_stay_in_bounds() {
        let style = Style::ascii();
        assert_eq!(style.bar(0, 10, 4), "....");
        assert_eq!(style.bar(5, 10, 4), "##..");
        assert_eq!(style.bar(99, 10, 4), "####");
        assert_eq!(style.bar(0, 0, 4), "....");
        assert_eq!(style.bar(u64::MAX, u64::MAX, 4), "####");
    }
}
