#!/bin/sh
# While the server's image is built: the database cluster with the schema of the LAVA
# that is installed, and the administrator (whose token and password come with each
# start), packed into one file. Again where another LAVA was laid over the image.
set -eu
here=/usr/lib/meta-lava

version=$(ls /usr/lib/postgresql)
rm -rf "/etc/postgresql/$version/main" "/var/lib/postgresql/$version"
# Small WAL segments: the data directory is unpacked at each start.
pg_createcluster "$version" main -- --auth-local=trust --auth-host=scram-sha-256 \
    --encoding=UTF8 --locale=C.UTF-8 --wal-segsize=1 --no-sync
echo "include '$here/server/postgresql.conf'" >> "/etc/postgresql/$version/main/postgresql.conf"
ln -sfn "/usr/lib/postgresql/$version/bin/postgres" $here/server/postgres
ln -sfn "/etc/postgresql/$version/main/postgresql.conf" $here/server/cluster.conf
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
