//! What it costs to list the packages of an image.
//!
//! `cargo bench --bench inventory -- IMAGE [--list]`, where IMAGE is the directory of an OCI layout, an
//! archive, or `engine:REFERENCE`, prints the time it took and how much was found; with `--list`
//! the package URLs, one on a line. `scripts/bench scan` compares it with syft.
#![expect(
    clippy::print_stdout,
    reason = "a benchmark takes arguments and prints what it found"
)]

use std::path::PathBuf;
use std::time::Instant;

use pipewright::adapters::docker::Docker;
use pipewright::adapters::image::{ImageSource, inventory};
use pipewright::ports::Silent;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let Some(image) = arguments.next() else {
        println!("no image was named");
        return;
    };
    let list = arguments.next().is_some();
    let path = PathBuf::from(&image);
    let source = match image.strip_prefix("engine:") {
        Some(reference) => ImageSource::Engine {
            docker: Box::new(Docker::connect().expect("the environment names an engine")),
            reference: reference.to_owned(),
        },
        None if path.is_dir() => ImageSource::Layout {
            directory: path,
            reference: None,
        },
        None => ImageSource::Archive {
            file: path,
            reference: None,
        },
    };
    let start = Instant::now();
    let found = inventory(&source, &Silent, &CancellationToken::new()).await;
    let found = found.expect("the image can be read");
    if list {
        for package in &found.packages {
            println!("{}", package.purl);
        }
        for uncovered in &found.uncovered {
            println!(
                "# {} {}: {}",
                uncovered.what, uncovered.location.path, uncovered.why
            );
        }
        return;
    }
    println!(
        "{} packages, {} not covered, {} layers in {:.2?}",
        found.packages.len(),
        found.uncovered.len(),
        found.layers.len(),
        start.elapsed()
    );
}
