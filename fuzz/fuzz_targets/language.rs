//! Any text through the whole language: no panic, no abort, no place outside the text.
//!
//! `cargo +nightly fuzz run language` from the root of the repository. Start it with the texts that
//! people wrote: `mkdir -p fuzz/corpus/language && cp tests/data/lang/*.kdl fuzz/corpus/language`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pipewright::base::Source;
use pipewright::{pipeline, plan};

fuzz_target!(|text: &str| {
    let (project, mut found) = pipeline::load(vec![Source::new("fuzz.kdl", text)]);
    found.extend(plan::check(&project));
    for found in found {
        assert!(!found.message.is_empty());
        let span = found.span;
        assert!(found.source.text().get(span.start..span.end).is_some());
    }
});
