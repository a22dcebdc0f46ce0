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

sh $here/server/database.sh
chown -R lavaserver:lavaserver /etc/lava-server
