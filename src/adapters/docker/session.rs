//! The session of one build: what the builder may ask us for while it works. Build secrets,
//! registry logins and the context's archive go this way and no other.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
    GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
};
use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_server::{Upload, UploadServer};
use futures_util::{Stream, StreamExt as _};
use hyper_util::rt::TokioIo;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::address::Wire;
use super::archive::{Archive, Archives};
use super::client::Client;
use crate::base::Secret;
use crate::ports::engine::EngineError;
use crate::ports::registry::{Login, Target};

/// Requests the builder may make, as it must be told beforehand.
const METHODS: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.upload.v1.Upload/Pull",
];

/// A running session. Dropping it ends it once the builder has what it is fetching: another
/// build may be waiting for the very archive this session sends.
pub(super) struct Session {
    /// Its name to the builder.
    pub(super) id: String,
    _end: DropGuard,
}

/// What a session serves.
pub(super) struct Served {
    pub(super) secrets: BTreeMap<String, Secret>,
    pub(super) registries: Vec<Target>,
    pub(super) archive: Arc<Archive>,
    pub(super) archives: Arc<Archives>,
}

impl Session {
    /// Opens a session; `tasks` owns what serves it.
    pub(super) async fn open(
        client: &Client,
        id: String,
        served: Served,
        tasks: &TaskTracker,
    ) -> Result<Self, EngineError> {
        let mut headers = vec![
            ("X-Docker-Expose-Session-Uuid", id.as_str()),
            ("X-Docker-Expose-Session-Name", "pipewright"),
        ];
        headers.extend(
            METHODS
                .iter()
                .map(|method| ("X-Docker-Expose-Session-Grpc-Method", *method)),
        );
        let stream = client
            .upgrade("a build session", "/session", &headers)
            .await?;
        let end = CancellationToken::new();
        let ended = end.clone().cancelled_owned();
        let services = Services(Arc::new(served));
        tasks.spawn(async move {
            let incoming = futures_util::stream::once(async {
                Ok::<_, io::Error>(Wire::new(TokioIo::new(stream)))
            })
            .chain(futures_util::stream::pending());
            // How a connection ends is of no interest: the build reports what it lacked.
            let _ = tonic::transport::Server::builder()
                .add_service(HealthServer::new(services.clone()))
                .add_service(SecretsServer::new(services.clone()))
                .add_service(AuthServer::new(services.clone()))
                .add_service(UploadServer::new(services))
                .serve_with_incoming_shutdown(incoming, ended)
                .await;
        });
        Ok(Self {
            id,
            _end: end.drop_guard(),
        })
    }
}

#[derive(Clone)]
struct Services(Arc<Served>);

#[tonic::async_trait]
impl Secrets for Services {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        match self.0.secrets.get(&id) {
            Some(secret) => Ok(Response::new(GetSecretResponse {
                data: secret.expose().as_bytes().to_vec(),
            })),
            None => Err(Status::not_found(format!(
                "no secret \"{id}\" was given to this build"
            ))),
        }
    }
}

#[tonic::async_trait]
impl Auth for Services {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let login = self
            .0
            .registries
            .iter()
            .find(|target| same_registry(&target.host, &host));
        let answer = match login.map(|target| &target.login) {
            Some(Login::Basic { user, password }) => CredentialsResponse {
                username: user.clone(),
                secret: password.expose().to_owned(),
            },
            _ => CredentialsResponse::default(),
        };
        Ok(Response::new(answer))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("the builder fetches tokens itself"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unavailable("the builder fetches tokens itself"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unavailable("the builder fetches tokens itself"))
    }
}

/// Whether the builder's name for a registry means ours. Docker Hub has several.
fn same_registry(ours: &str, asked: &str) -> bool {
    fn canonical(host: &str) -> &str {
        match host {
            "index.docker.io" | "registry-1.docker.io" | "https://index.docker.io/v1/" => {
                "docker.io"
            }
            other => other,
        }
    }
    canonical(ours) == canonical(asked)
}

#[tonic::async_trait]
impl Upload for Services {
    type PullStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn pull(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let wanted = request.metadata().get("urlpath");
        let archive = &self.0.archive;
        if wanted.is_none_or(|path| path.as_bytes() != archive.url_path().as_bytes()) {
            return Err(Status::not_found("this session serves no such archive"));
        }
        self.0.archives.count_upload();
        let pieces = archive.clone().stream().map(|piece| match piece {
            Ok(data) => Ok(BytesMessage { data }),
            Err(error) => Err(Status::aborted(error.to_string())),
        });
        Ok(Response::new(Box::pin(pieces)))
    }
}

#[tonic::async_trait]
impl Health for Services {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse {
            status: ServingStatus::Serving.into(),
        }))
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("only single checks are answered"))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("only single checks are answered"))
    }
}

impl tonic::transport::server::Connected for Wire {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

#[cfg(test)]
mod tests {
    use super::same_registry;

    #[test]
    fn docker_hub_has_many_names() {
        assert!(same_registry("docker.io", "registry-1.docker.io"));
        assert!(same_registry(
            "registry.example:5000",
            "registry.example:5000"
        ));
        assert!(!same_registry("registry.example", "registry.example:5000"));
    }
}
