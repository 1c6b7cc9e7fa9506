//! Puts the functions that a short command runs beside each other in the program.
//!
//! Most of this program talks to networks. What `check` runs is a twentieth of it, and spread over
//! all of it, and a system brings in sixteen pages where one is wanted: a command that lives for
//! three milliseconds would hold ten mebibytes of functions that it never calls.
//! `scripts/link-order` writes the order anew; a name in it that is gone does no harm.

#![allow(
    clippy::disallowed_methods,
    reason = "what cargo says to a build script, it says in variables"
)]

use std::env;
use std::path::Path;

const ORDER: &str = "scripts/link-order.ld";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={ORDER}");
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value == wanted);
    // Linkers of other systems read other scripts, and while developing every second counts.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let order = Path::new(&root).join(ORDER);
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", order.display());
    }
}
