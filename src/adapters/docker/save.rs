//! What scanners run from images need of the engine: an image as an archive, and a volume that
//! outlives a run.

use std::path::Path;

use bollard::models::VolumeCreateRequest;
use futures_util::TryStreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::Docker;
use super::error::{broken, check_name, check_reference};
use crate::ports::engine::EngineError;

impl Docker {
    /// Whether the engine sees the files of this host.
    pub(in crate::adapters) fn is_local(&self) -> bool {
        self.client.address().is_socket()
    }

    /// Writes an image as `docker save` does, piece by piece.
    pub(in crate::adapters) async fn save(
        &self,
        reference: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), EngineError> {
        check_reference(reference)?;
        let what = format!("the export of {reference}");
        let failed = |error: std::io::Error| broken(&what, error);
        let write = async {
            let mut file = tokio::fs::File::create(to).await.map_err(failed)?;
            let mut pieces = std::pin::pin!(self.client.api.export_image(reference));
            while let Some(piece) = pieces
                .try_next()
                .await
                .map_err(|error| self.client.error(&what, error))?
            {
                file.write_all(&piece).await.map_err(failed)?;
            }
            file.flush().await.map_err(failed)
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(EngineError::Cancelled),
            written = write => written,
        }
    }

    /// Makes a volume that no run owns, so that none takes it away. There already is fine.
    pub(in crate::adapters) async fn keep_volume(&self, name: &str) -> Result<(), EngineError> {
        let what = format!("volume {name}");
        check_name(&what, name)?;
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        let made = self.client.api.create_volume(request).await;
        made.map(drop)
            .map_err(|error| self.client.error(&what, error))
    }
}
