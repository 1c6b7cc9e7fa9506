//! What is generated from the tables is what is in the repository.
//!
//! `PIPEWRIGHT_BLESS=1` rewrites the files.

use pipewright::cli::reference;

use crate::support::files::{root, same_as_file};

#[test]
fn the_reference_is_that_of_the_tables() {
    let same = same_as_file(&root().join("docs/reference.md"), &reference::page());
    assert_eq!(same, Ok(()));
}

#[test]
fn the_schema_is_that_of_the_tables() {
    let path = root().join("schema/pipewright.schema.json");
    assert_eq!(same_as_file(&path, &reference::schema()), Ok(()));
}
