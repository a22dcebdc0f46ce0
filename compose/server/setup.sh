#!/bin/sh
# While the server's image is built: Debian's packages, the database cluster,
# LAVA's schema, and the administrator (whose token and password come with each
# start).
set -eu
here=/usr/lib/meta-lava
export DEBIAN_FRONTEND=noninteractive

sh $here/common/apt-lean.sh setup
sh $here/common/apt-lean.sh absent systemd-sysv locales libllvm14
# The cluster is made below, once.
mkdir -p /etc/postgresql-common
echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
apt-get update
apt-get install --yes lava-server lava-coordinator postgresql zstd
sh $here/common/apt-lean.sh clean

cp $here/server/settings.yaml /etc/lava-server/settings.d/50-meta-lava.yaml
cp $here/server/env.yaml /etc/lava-server/env.yaml

version=$(ls /usr/lib/postgresql)
# Small WAL segments: the data directory is unpacked at each start.
pg_createcluster "$version" main -- --auth-local=trust --auth-host=scram-sha-256 \
    --encoding=UTF8 --locale=C.UTF-8 --wal-segsize=1 --no-sync
echo "include '$here/server/postgresql.conf'" >> "/etc/postgresql/$version/main/postgresql.conf"
ln -s "/usr/lib/postgresql/$version/bin/postgres" $here/server/postgres
ln -s "/etc/postgresql/$version/main/postgresql.conf" $here/server/cluster.conf
pg_ctlcluster "$version" main start
python3 /usr/share/lava-server/postinst.py --config --db --fixup
cd /
su postgres -c 'psql -q -d lavaserver -c "DROP DATABASE IF EXISTS devel"'
lava-server manage users add --staff --superuser \
    --passwd "$(od -An -tx1 -N24 /dev/urandom | tr -d ' \n')" meta-lava-admin
su postgres -c 'psql -q -d lavaserver -c "DROP DATABASE postgres" -c "VACUUM ANALYZE" -c CHECKPOINT'
pg_ctlcluster "$version" main stop
tar --create --directory /var/lib/postgresql . | zstd --quiet -5 > $here/server/database.tar.zst
rm -rf "/var/lib/postgresql/$version"
chown -R lavaserver:lavaserver /etc/lava-server
