//! The builder's gateway: we sit between its Dockerfile frontend and its exporter, so that the
//! image's configuration passes through our hands before it becomes an image.
//!
//! The messages are the part of BuildKit's `frontend/gateway` protocol that this needs.

use std::collections::HashMap;

use bollard_buildkit_proto::pb;
use hyper::upgrade::Upgraded;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service, http::Uri};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// Largest message in either direction, as the builder has it.
pub(super) const MAX_MESSAGE: usize = 16 << 20;
const SOLVE: &str = "/moby.buildkit.v1.frontend.LLBBridge/Solve";
const RETURN: &str = "/moby.buildkit.v1.frontend.LLBBridge/Return";

/// Asks a frontend for a result.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SolveRequest {
    #[prost(string, tag = "2")]
    pub(super) frontend: String,
    #[prost(map = "string, string", tag = "3")]
    pub(super) options: HashMap<String, String>,
    #[prost(bool, tag = "5")]
    pub(super) allow_result_return: bool,
    #[prost(bool, tag = "6")]
    pub(super) allow_result_array_ref: bool,
    #[prost(map = "string, message", tag = "13")]
    pub(super) inputs: HashMap<String, pb::Definition>,
}

/// What the frontend answers.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SolveResponse {
    #[prost(message, optional, tag = "3")]
    pub(super) result: Option<BuildResult>,
}

/// A result: references to file systems and facts about them.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BuildResult {
    #[prost(string, optional, tag = "1")]
    ref_deprecated: Option<String>,
    #[prost(message, optional, tag = "2")]
    refs_deprecated: Option<OldRefs>,
    #[prost(message, optional, tag = "3")]
    one: Option<Ref>,
    #[prost(message, optional, tag = "4")]
    many: Option<Refs>,
    #[prost(map = "string, bytes", tag = "10")]
    pub(super) metadata: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OldRefs {
    #[prost(map = "string, string", tag = "1")]
    refs: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Ref {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Refs {
    #[prost(map = "string, message", tag = "1")]
    refs: HashMap<String, Ref>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReturnRequest {
    #[prost(message, optional, tag = "1")]
    result: Option<BuildResult>,
    #[prost(message, optional, tag = "2")]
    error: Option<RpcStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct ReturnResponse {}

/// The gateway of one build.
#[derive(Clone)]
pub(super) struct Gateway {
    grpc: tonic::client::Grpc<Channel>,
    build: String,
}

impl Gateway {
    pub(super) fn new(channel: Channel, build: String) -> Self {
        let grpc = tonic::client::Grpc::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Self { grpc, build }
    }

    /// Lets a frontend work.
    pub(super) async fn solve(&mut self, request: SolveRequest) -> Result<BuildResult, Status> {
        let response: SolveResponse = self.call(SOLVE, request).await?;
        response
            .result
            .ok_or_else(|| Status::internal("the builder returned no result"))
    }

    /// Hands the result, or the error, to the exporter.
    pub(super) async fn give_back(
        &mut self,
        outcome: Result<BuildResult, Status>,
    ) -> Result<(), Status> {
        let request = match outcome {
            Ok(result) => ReturnRequest {
                result: Some(result),
                error: None,
            },
            Err(status) => ReturnRequest {
                result: None,
                error: Some(RpcStatus {
                    code: status.code().into(),
                    message: status.message().to_owned(),
                }),
            },
        };
        let _: ReturnResponse = self.call(RETURN, request).await?;
        Ok(())
    }

    async fn call<Q, A>(&mut self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut request = Request::new(message);
        let build = MetadataValue::try_from(self.build.as_str())
            .map_err(|_| Status::internal("a build's name is plain text"))?;
        request
            .metadata_mut()
            .insert("buildkit-controlapi-buildid", build);
        self.grpc
            .ready()
            .await
            .map_err(|error| Status::from_error(Box::new(error)))?;
        let codec = ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        Ok(self.grpc.unary(request, path, codec).await?.into_inner())
    }
}

/// Speaks gRPC over an upgraded connection, and over no other: once it is lost, calls fail.
pub(super) async fn channel(stream: Upgraded) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_static("http://engine")
        .connect_with_connector(Once(Some(stream)))
        .await
}

struct Once(Option<Upgraded>);

impl Service<Uri> for Once {
    type Response = Upgraded;
    type Error = std::io::Error;
    type Future = BoxFuture<Upgraded, std::io::Error>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.take();
        Box::pin(async move {
            stream.ok_or_else(|| std::io::Error::other("the connection to the builder was lost"))
        })
    }
}
