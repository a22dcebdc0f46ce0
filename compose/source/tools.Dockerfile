# What LAVA's own installation needs, on an image of a server or a worker: below the
# source itself, which changes often.
ARG BASE=meta-lava-dev/server
FROM ${BASE}
RUN python3 -c 'import setuptools' 2> /dev/null \
 || { apt-get update \
 && apt-get install --yes --no-install-recommends python3-setuptools \
 && rm -rf /var/lib/apt/lists/*; }
