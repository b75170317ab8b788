# SPDX-License-Identifier: Apache-2.0
# rerankd for CPUs.  docker build -t rerankd . && docker run -p 8002:8002 rerankd
# The final image has no shell and no package manager: the program, its libraries and the starter model.
FROM debian:bookworm-slim AS build
# Pinned versions would vanish from the archive with the next security update.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make pkg-config \
        libjansson-dev libmicrohttpd-dev libcurl4-openssl-dev libutf8proc-dev libxxhash-dev \
        libpcre2-dev libgnutls28-dev libseccomp-dev libhiredis-dev \
        ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile ./
COPY include include
COPY src src
COPY models models
COPY deploy/docker deploy/docker
RUN make -j"$(nproc)" PREFIX=/usr build/rerankd && deploy/docker/rootfs.sh build/rerankd /image

FROM scratch
COPY --from=build /image /
# Compiled tokenizers are kept in /tmp, which must be writable: with a read-only root, a tmpfs.
ENV RERANKD_CACHE_DIR=/tmp/rerankd PATH=/usr/bin
USER 65532:65532
WORKDIR /data
EXPOSE 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --retries=3 --start-period=120s \
    CMD ["/usr/bin/rerankd", "healthcheck"]
ENTRYPOINT ["/usr/bin/rerankd"]
CMD ["serve"]
