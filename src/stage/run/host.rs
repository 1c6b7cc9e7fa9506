//! A `run` on the host.

use std::path::PathBuf;
use std::time::Duration;

use super::{Run, StageContext};
use crate::base::Text;
use crate::ports::process::{ProcessSpec, Program};
use crate::stage::Failure;

/// Runs the program in the scratch directory and returns its exit status.
pub(super) async fn run(
    stage: &Run,
    cx: &StageContext<'_>,
    workdir: PathBuf,
    program: Program,
    env: Vec<(String, Text)>,
    grace: Duration,
) -> Result<i64, Failure> {
    let caches = stage.cache_dirs(cx).await?;
    for (kept, path) in &caches {
        cx.world
            .workspace
            .link(&workdir, std::path::Path::new(path), kept)
            .await?;
    }
    let spec = ProcessSpec {
        program,
        workdir,
        env,
        marker: format!("{}/{}", cx.run, cx.stage),
        grace,
    };
    Ok(i64::from(
        cx.world.host.run(&spec, cx.output, &cx.cancel).await?,
    ))
}
