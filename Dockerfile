# The image of Pipewright itself.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --release --bin pipewright

FROM debian:bookworm-slim
ARG VERSION=dev
# git-credential and docker-credential helpers are not part of it; mount what you use.
RUN apt-get update \
    && apt-get install -y --no-install-recommends bash ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/pipewright /usr/local/bin/pipewright
LABEL org.opencontainers.image.version=$VERSION
WORKDIR /work
ENTRYPOINT ["pipewright"]
