# The worker with its ghosts: what is only copied, so that a change of it costs seconds. One
# binary, under every name LAVA may call it by. Build context: a folder `layer`, laid over
# the root, with `usr/bin/ghost` (static), and below `usr/lib/meta-lava` compose/common
# and compose/worker.
ARG BASE=meta-lava-dev/worker-base
FROM ${BASE}
COPY layer /
