//! The lines around a node that can be read on their own, so that the parser that finds bytes need
//! not read the rest of a large text.

use super::error::YamlError;
use super::locate::{Located, locate};
use super::reader::{Events, What};
use super::resolve::{Step, Target};
use crate::base::Span;

/// Largest stretch that is read instead of the whole text, in bytes.
const MAX_WINDOW: usize = 16 << 10;

/// Finds the bytes of a node: in the entry of the outermost block mapping that is small enough, else
/// in the whole text. `inside` is a byte of the node's document.
pub(super) fn locate_target(
    text: &str,
    events: &Events,
    target: &Target,
    inside: usize,
) -> Result<Located, YamlError> {
    if let Some(window) = window(text, events, target)
        && let Ok(mut located) = locate(
            &text[window.span.start..window.span.end],
            window.inside,
            &window.steps,
        )
    {
        let by = window.span.start;
        for span in [&mut located.span].into_iter().chain(&mut located.key) {
            *span = Span::new(span.start + by, span.end + by);
        }
        return Ok(located);
    }
    locate(text, inside, &target.steps)
}

/// One entry of a block mapping, as a text of its own.
struct Window {
    span: Span,
    /// The first byte of its key, in it.
    inside: usize,
    steps: Vec<Step>,
}

fn window(text: &str, events: &Events, target: &Target) -> Option<Window> {
    for (depth, (parent, step)) in target.above.iter().zip(&target.steps).enumerate() {
        let list = &events.list;
        let node = &list[*parent];
        // Brackets span lines as they like: nothing in them stands alone.
        if text.get(node.start..)?.starts_with(['{', '[']) {
            return None;
        }
        let (Step::Entry(index), What::Mapping { .. }) = (*step, &node.what) else {
            continue;
        };
        let mut keys = events
            .entries(*parent)
            .skip(index)
            .map(|(key, _)| list[key].start);
        let key = keys.next()?;
        let start = line_start(text, key)?;
        let end = match keys.next() {
            Some(next) => line_start(text, next)?,
            None => list.get(node.next - 1)?.start.min(text.len()),
        };
        if text.get(start..key)?.trim_matches(' ').is_empty()
            && key < end
            && end - start <= MAX_WINDOW
            && text.is_char_boundary(end)
        {
            let steps = [&[Step::Entry(0)], &target.steps[depth + 1..]].concat();
            return Some(Window {
                span: Span::new(start, end),
                inside: key - start,
                steps,
            });
        }
    }
    None
}

fn line_start(text: &str, at: usize) -> Option<usize> {
    let before = text.get(..at)?;
    Some(before.rfind(['\n', '\r']).map_or(0, |at| at + 1))
}
