# pgweir in a small image: docker build -t pgweir .
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
# The cache keeps the dependencies' build products; the binary is copied out of it, since it is no part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/pgweir /usr/local/bin/pgweir

FROM debian:bookworm-slim
RUN useradd --system --no-create-home --shell /usr/sbin/nologin pgweir
COPY --from=build /usr/local/bin/pgweir /usr/local/bin/pgweir
USER pgweir
EXPOSE 6432 9432
ENTRYPOINT ["pgweir"]
CMD ["run", "-c", "/etc/pgweir/pgweir.toml"]
