#!/bin/sh
# While the server's image is built: Debian's packages, the database, and the files that a test server differs in.
set -eu
here=/usr/lib/meta-lava
export DEBIAN_FRONTEND=noninteractive

sh $here/common/apt-lean.sh setup
sh $here/common/apt-lean.sh absent systemd-sysv locales libllvm14
# The cluster is made below, once.
mkdir -p /etc/postgresql-common
echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
# Which one, where the harness has asked the archive.
version=$(cat $here/common/lava-version 2> /dev/null || true)
apt-get update
apt-get install --yes "lava-server${version:+=$version}" lava-coordinator postgresql zstd
sh $here/common/apt-lean.sh clean

cp $here/server/settings.yaml /etc/lava-server/settings.d/50-meta-lava.yaml
cp $here/server/env.yaml /etc/lava-server/env.yaml
# From 2026.10 on the coordinator listens to its own machine alone, unless it is told otherwise.
cat > /etc/lava-coordinator/lava-coordinator.conf <<'CFG'
{"port": 3079, "blocksize": 4096, "poll_delay": 1, "coordinator_hostname": "localhost", "bind_address": "0.0.0.0"}
CFG

sh $here/server/database.sh
chown -R lavaserver:lavaserver /etc/lava-server
