//! A report for job pages and pull requests, as Markdown. Nothing that was found becomes a link, a
//! mention or a picture.

use super::gate::{Judgement, Verdict};
use super::group::groups;
use super::{Rating, Report};
use crate::base::harmless::escape_markdown as escape;
use crate::base::human_count;

/// Packages and lines listed at most; job pages refuse very long texts.
const ROWS: usize = 100;
/// Problems named of one package.
const NAMED: usize = 5;

/// Writes a report as a gate judged it, under a title.
pub fn section(title: &str, report: &Report, judgement: &Judgement<'_>) -> String {
    let (mark, sentence) = match judgement.verdict(report) {
        Verdict::Passed(text) => ("passes", text),
        Verdict::Failed(text) => ("does not pass", text),
        Verdict::Errored(text) => ("cannot be judged", text),
    };
    let mut text = format!(
        "### {}: {mark}\n\n{}.\n\n",
        escape(title),
        escape(&sentence)
    );
    let counts: Vec<String> = Rating::ALL
        .into_iter()
        .map(|rating| format!("{} {}", report.count(rating), rating.word()))
        .collect();
    text.push_str(&format!(
        "{}: {}, {} ({}).\n",
        escape(&report.tool.name),
        report.packages_in_words(),
        human_count(report.findings.len(), "finding"),
        counts.join(", ")
    ));
    let groups = groups(&judgement.against);
    if !groups.is_empty() {
        text.push_str("\n| Package | Version | Take | Worst | Problems |\n|---|---|---|---|---|\n");
    }
    for group in groups.iter().take(ROWS) {
        let Some(first) = group.findings.first() else {
            continue;
        };
        let take = match group.advice() {
            Some((version, rest)) => format!("{}{}", escape(&version), escape(&rest)),
            None => "no fix yet".to_owned(),
        };
        let mut ids: Vec<String> = group
            .findings
            .iter()
            .take(NAMED)
            .map(|finding| escape(&finding.advisory.id))
            .collect();
        if group.findings.len() > NAMED {
            ids.push(format!("and {} more", group.findings.len() - NAMED));
        }
        text.push_str(&format!(
            "| {} | {} | {take} | {} | {} |\n",
            escape(&first.package),
            escape(&first.version),
            group.worst().word(),
            ids.join(", ")
        ));
    }
    if groups.len() > ROWS {
        text.push_str(&format!(
            "\nNot listed: {} packages.\n",
            groups.len() - ROWS
        ));
    }
    if !judgement.excused.is_empty() {
        text.push_str("\nNot counted:\n\n");
        for (finding, excuse) in judgement.excused.iter().take(ROWS) {
            text.push_str(&format!(
                "- {} in {} {}: {}\n",
                escape(&finding.advisory.id),
                escape(&finding.package),
                escape(&finding.version),
                escape(&excuse.words)
            ));
        }
        if judgement.excused.len() > ROWS {
            text.push_str(&format!("- and {} more\n", judgement.excused.len() - ROWS));
        }
    }
    let concerns = judgement.concerns.iter().map(|concern| &concern.message);
    for remark in concerns.chain(&report.remarks) {
        text.push_str(&format!("\n{}.\n", escape(remark)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::scan::gate::Gate;
    use crate::scan::vex::Product;
    use crate::scan::{Finding, Tool};

    #[test]
    fn nothing_found_becomes_markup() {
        let mut evil = Finding::new("CVE-1", "@team/[x](http://evil)", "1|2", Rating::High);
        evil.fixed = Some("2\u{202e}<img>".to_owned());
        let report = Report {
            findings: vec![evil, Finding::new("CVE-2", "low", "1", Rating::Low)],
            packages: 3,
            ..Report::new(Tool::named("trivy"), "sha256:0")
        };
        let gate = Gate::default();
        let judgement = gate.judge(&report, &Product::default(), Timestamp(0));
        let expected = r"### scan.app: does not pass

1 finding at or above the gate, such as CVE-1 in &#64;team/\[x\](http:&#47;&#47;evil) 1\|2 (fixed in 2&lt;img&gt;).

trivy: 3 packages, 2 findings (0 critical, 1 high, 0 medium, 1 low, 0 unknown).

| Package | Version | Take | Worst | Problems |
|---|---|---|---|---|
| &#64;team/\[x\](http:&#47;&#47;evil) | 1\|2 | 2&lt;img&gt; | high | CVE-1 |
";
        assert_eq!(section("scan.app", &report, &judgement), expected);
    }
}
