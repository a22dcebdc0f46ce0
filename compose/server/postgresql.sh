#!/bin/sh
# PostgreSQL, on the database that came with the image or on one that is there
# already (a server after an upgrade). Unpacked here, from one file: the engine
# takes a second and more to fill a volume from 1300 files of an image.
set -e
data=$(echo /var/lib/postgresql/*/main)
if [ ! -e "$data/PG_VERSION" ]; then
    zstd --quiet --decompress --stdout /usr/lib/meta-lava/server/database.tar.zst \
        | tar --extract --preserve-permissions --directory /var/lib/postgresql
fi
exec setpriv --reuid postgres --regid postgres --init-groups /usr/lib/meta-lava/server/postgres \
    -c config_file="$(readlink /usr/lib/meta-lava/server/cluster.conf)"
