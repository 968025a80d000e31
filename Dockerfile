# syntax=docker/dockerfile:1
# One image, one binary: `control-plane` and `data-plane` are its commands.

FROM node:20-bookworm-slim AS console
WORKDIR /src/web
COPY web/package.json web/package-lock.json ./
RUN npm ci --no-audit --no-fund
# The console's types are generated from the REST API's document.
COPY control-plane/openapi.json /src/control-plane/openapi.json
COPY web ./
RUN npm run build

FROM rust:1.95.0-bookworm AS build
# The image's own toolchain, not another download of it.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY proto proto
COPY migrations migrations
COPY control-plane control-plane
COPY data-plane data-plane
COPY lockgate lockgate
COPY tests tests
COPY --from=console /src/web/dist web/dist
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package lockgate && cp target/release/lockgate /lockgate

FROM debian:bookworm-slim
# A named volume takes its owner from the directory that it covers: data is ours alone, /run/lockgate is shared.
RUN groupadd --gid 10001 lockgate \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/lockgate \
        --shell /usr/sbin/nologin lockgate \
    && install -d -m 0700 -o lockgate -g lockgate /var/lib/lockgate /run/lockgate
COPY --from=build /lockgate /usr/local/bin/lockgate
USER 10001:10001
WORKDIR /var/lib/lockgate
VOLUME /var/lib/lockgate
# REST API and console, the link for nodes, the gateway, health and metrics of a node.
EXPOSE 9080 9443 8080 9091
ENTRYPOINT ["lockgate"]
CMD ["--help"]
