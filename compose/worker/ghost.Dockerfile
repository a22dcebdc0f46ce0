# The worker with its ghosts: one binary, under every name LAVA may call it by.
# Build context: a folder with the static binary `ghost`.
ARG BASE=meta-lava-dev/worker-base
FROM ${BASE}
COPY ghost /usr/bin/ghost
