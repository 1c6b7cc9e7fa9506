//! What a pull request says: title, description with the difference it makes, and the mark by
//! which earlier ones of the same bump are known. No effects.

use super::Bump;
use super::edits::Edited;
use super::pull_request::PullSpec;
use super::write::Job;
use crate::base::{Digest, StageId};
use crate::ports::forge::MergeMethod;
use crate::stage::{Failure, Values};

/// Longest title, in characters.
const TITLE: usize = 255;
/// Longest description, in bytes.
const BODY: usize = 65_536;

/// A pull request as it is wanted, with everything known but the difference.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) branch: String,
    pub(super) title: String,
    words: String,
    /// Stands in the description of every pull request of this bump.
    pub(super) mark: String,
    pub(super) labels: Vec<String>,
    pub(super) reviewers: Vec<String>,
    pub(super) draft: bool,
    pub(super) auto_merge: Option<MergeMethod>,
}

impl Wanted {
    /// The description: words, the difference, the mark; cut if it is too long.
    pub(super) fn body(&self, edited: &Edited) -> String {
        let words = match self.words.trim() {
            "" => String::new(),
            words => format!("{}\n\n", cut_at(words, BODY / 2)),
        };
        let close = format!("\n\n{}\n", self.mark);
        let shown = fenced(&edited.diff, BODY - words.len() - close.len());
        format!("{words}{shown}{close}")
    }
}

/// A difference as a comment shows it.
pub(super) fn difference(diff: &str) -> String {
    fenced(diff, BODY / 2)
}

/// A difference in a fence that it cannot leave, in at most so many bytes.
fn fenced(diff: &str, limit: usize) -> String {
    const CUT: &str = "… (cut: the whole difference is too long to be shown here)\n";
    let fence = "`".repeat(longest_run(diff).max(2) + 1);
    let open = format!("{fence}diff\n");
    let room = limit.saturating_sub(open.len() + fence.len() + CUT.len() + 1);
    let shown = cut_at(diff, room);
    let mut text = format!("{open}{shown}");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if shown.len() < diff.len() {
        text.push_str(CUT);
    }
    text.push_str(&fence);
    text
}

impl Bump {
    /// What is to be asked for in a run.
    pub(super) async fn wanted(
        &self,
        values: &Values,
        stage: &StageId,
        spec: &PullSpec,
        job: &Job,
    ) -> Result<Wanted, Failure> {
        let mut branch = values.plain(&spec.branch).await?;
        if job.undo.is_some() {
            branch = format!("revert-{branch}");
        }
        let title = match &spec.title {
            Some(title) if job.undo.is_none() => values.plain(title).await?,
            _ => job.words.subject().to_owned(),
        };
        let words = match &spec.body {
            Some(body) if job.undo.is_none() => values.plain(body).await?,
            _ => {
                let message = job.words.message.split_once('\n');
                message.map_or("", |(_, rest)| rest).trim().to_owned()
            }
        };
        let (mut labels, mut reviewers) = (Vec::new(), Vec::new());
        for label in &spec.labels {
            labels.push(values.plain(label).await?);
        }
        for reviewer in &spec.reviewers {
            reviewers.push(values.plain(reviewer).await?);
        }
        let mut places: Vec<String> = job
            .edits
            .iter()
            .map(|edit| format!("{}\n{}", edit.files.join(" "), edit.edit.place()))
            .collect();
        places.sort();
        // Another pipeline that changes other places does not supersede this one.
        let of = format!("{}\n{stage}\n{}", values.pipeline, places.join("\n"));
        let mark = format!(
            "<!-- pipewright {} -->",
            &Digest::of(of.as_bytes()).hex()[..16]
        );
        Ok(Wanted {
            branch,
            title: one_title(&title),
            words,
            mark,
            labels,
            reviewers,
            draft: spec.draft,
            auto_merge: spec.auto_merge,
        })
    }
}

/// A title on one line, cut if it is too long.
fn one_title(text: &str) -> String {
    let line = crate::base::harmless::one_line(text);
    if line.chars().count() <= TITLE {
        return line;
    }
    let mut cut: String = line.chars().take(TITLE - 1).collect();
    cut.push('…');
    cut
}

fn longest_run(text: &str) -> usize {
    let runs = text.split(|c| c != '`').map(str::len);
    runs.max().unwrap_or(0)
}

/// The beginning of a text in at most so many bytes.
fn cut_at(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn body(words: &str, diff: &str) -> String {
        let wanted = Wanted {
            branch: "b".to_owned(),
            title: "t".to_owned(),
            words: words.to_owned(),
            mark: "<!-- mark -->".to_owned(),
            labels: Vec::new(),
            reviewers: Vec::new(),
            draft: false,
            auto_merge: None,
        };
        wanted.body(&Edited {
            files: BTreeMap::new(),
            changes: Vec::new(),
            diff: diff.to_owned(),
        })
    }

    #[test]
    fn a_description_shows_the_difference() {
        assert_eq!(
            body("why", "+a\n"),
            "why\n\n```diff\n+a\n```\n\n<!-- mark -->\n"
        );
        assert_eq!(body("", "+```"), "````diff\n+```\n````\n\n<!-- mark -->\n");
    }

    #[test]
    fn what_is_too_long_is_cut() {
        for words in ["", &"é".repeat(100_000)] {
            let body = body(words, &"+é long line\n".repeat(10_000));
            assert!(
                body.len() <= BODY && body.len() > BODY - 200,
                "{}",
                body.len()
            );
            assert!(body.contains("(cut: ") && body.ends_with("<!-- mark -->\n"));
        }
        let title = one_title(&"é".repeat(300));
        assert_eq!(title.chars().count(), TITLE);
        assert_eq!(one_title("a\n b"), "a b");
    }
}
