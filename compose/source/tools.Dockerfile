# What a LAVA needs of Debian, on an image of a server or a worker: below the source
# itself, which changes often. Build context: compose/source, and of the checkout what it
# says about that, as `lava`.
ARG BASE=meta-lava-dev/server
FROM ${BASE}
COPY source /usr/lib/meta-lava/source/
COPY lava /usr/src/lava/
RUN sh /usr/lib/meta-lava/source/tools.sh
