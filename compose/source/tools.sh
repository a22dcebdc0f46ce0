#!/bin/sh
# While an image is built: what the LAVA in /usr/src/lava needs of Debian to be installed
# and to run, as far as it says so itself, and the image does not have it.
set -eu
here=/usr/lib/meta-lava
export DEBIAN_FRONTEND=noninteractive

if [ -e /usr/bin/lava-server ]; then
    programs="lava-common lava-server"
else
    programs="lava-common lava-dispatcher"
fi
debian=$(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")
missing=
# Failures within `for` would not be seen.
needed=$(python3 $here/source/needs.py /usr/src/lava "$debian" $programs)
for package in python3-setuptools $needed; do
    dpkg-query --show --showformat '${db:Status-Status}\n' "$package" 2> /dev/null | grep -qx installed \
     || missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "installing$missing"
    apt-get update
    apt-get install --yes --no-install-recommends $missing
    rm -rf /var/lib/apt/lists/*
fi
