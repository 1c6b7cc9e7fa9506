//! What the simulated world does, and that it notices every breach of its rules.

mod containers;
mod deliveries;
mod images;
mod lives;
mod processes;
mod registries;
mod remotes;
mod services;
mod support;
mod workspaces;

/// Reads the rules out of their source, so that a new one cannot come without a test.
#[test]
fn every_rule_has_a_test() {
    let (_, rules) = include_str!("../ledger.rs")
        .split_once("pub enum Rule {")
        .expect("the rules are an enum");
    let tests = [
        include_str!("containers.rs"),
        include_str!("deliveries.rs"),
        include_str!("images.rs"),
        include_str!("lives.rs"),
        include_str!("processes.rs"),
        include_str!("registries.rs"),
        include_str!("remotes.rs"),
        include_str!("services.rs"),
        include_str!("workspaces.rs"),
    ];
    let rules: Vec<&str> = rules
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("///"))
        .filter_map(|line| line.strip_suffix(','))
        .collect();
    assert!(rules.len() > 30, "{rules:?}");
    for rule in rules {
        let tested = tests.iter().any(|test| {
            test.match_indices(&format!("Rule::{rule}"))
                .any(|(at, name)| !test[at + name.len()..].starts_with(char::is_alphanumeric))
        });
        assert!(tested, "no test breaks the rule {rule}");
    }
}
