# No `syntax` line: every engine's own front end knows all of this, and none is fetched to read it.
# For images of your own registry, or by digest: --build-arg RUST_IMAGE=… --build-arg DEBIAN_IMAGE=…
ARG RUST_IMAGE=rust:1.95-trixie
ARG DEBIAN_IMAGE=debian:trixie-slim

FROM ${RUST_IMAGE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libcurl4-openssl-dev libpq-dev libsasl2-dev libssl-dev make pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ARG PROFILE=dist
ARG FEATURES=traces,kerberos,oidc

# The dependencies, in a layer of their own: it stays until one of them changes. They are compiled for an empty adflux,
# of which nothing may be left: cargo goes by the time of a file, and would take the empty one for the newer.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches/pipeline tests/chaos \
    && touch src/lib.rs \
    && for main in src/main.rs benches/pieces.rs benches/pipeline/main.rs tests/chaos/main.rs; do echo 'fn main() {}' >$main; done \
    && cargo build --profile $PROFILE --features "$FEATURES" --locked --bin adflux \
    && cargo clean --profile $PROFILE --locked --package adflux

# All of adflux, compiled anew whenever a file of it is another: no folder is shared with another build.
COPY build.rs ./
COPY schemas schemas
COPY web web
COPY migrations migrations
COPY src src
RUN cargo build --profile $PROFILE --features "$FEATURES" --locked --offline --bin adflux \
    && strip --strip-debug -o /adflux target/$PROFILE/adflux

FROM ${DEBIAN_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libcurl4t64 libpq5 libsasl2-2 libsasl2-modules-gssapi-mit libssl3t64 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin adflux
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/adflux/
COPY --from=build /adflux /usr/local/bin/adflux
USER 10001:10001

# Whatever answers, does so on port 8080 of the container: `serve` and `run` with the API, `process` and `simulate` with
# their state.
ENV ADFLUX_LISTEN=0.0.0.0:8080 ADFLUX_METRICS_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=6 CMD ["adflux", "healthcheck"]
ENTRYPOINT ["adflux"]

ARG VERSION=
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="adflux" \
      org.opencontainers.image.description="Real-time ad-campaign analytics: Kafka to PostgreSQL exactly once, served as insights" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
