#!/bin/sh
# While an image is built: puts the LAVA in /usr/src/lava in the place of the one that is
# installed. LAVA's own setup.py knows what belongs where; what is here is what Debian's
# package and upstream's Dockerfile do besides.
set -eu
here=/usr/lib/meta-lava
source=/usr/src/lava
modules=/usr/lib/python3/dist-packages
share=/usr/share/lava-server

if [ -e /usr/bin/lava-server ]; then
    packages="lava-common lava-coordinator lava-server"
    # Where there is no key yet, one is made at the first start.
    export SECRET_KEY=only-for-these-checks
    checks="lava-server manage check
        lava-server manage lava-scheduler --help
        lava-server manage lava-publisher --help
        lava-coordinator --help"
else
    packages="lava-common lava-dispatcher lava-dispatcher-host"
    checks="lava-worker --help
        lava-run --help"
fi

# The schema that a database has comes from these.
migrations() {
    find $modules -path "$modules/l*/migrations/*.py" -exec sha256sum {} + | sort
}

before=$(migrations)
# What the other LAVA has and this one has no more must not stay.
rm -rf $modules/lava $modules/lava_* $modules/linaro_django_xmlrpc $share/device-types
installed=$(mktemp -d)
cd $source
for package in $packages; do
    grep -q "\"$package\"" setup.py || continue
    python3 setup.py -q build -b /tmp/build egg_info --egg-base /tmp \
        install --root "$installed" --no-compile --install-layout=deb "$package"
    rm -rf /tmp/build
done
# No services of an init system that is not there; and the settings of the image stay.
rm -rf "$installed/lib" "$installed/usr/lib/systemd" "$installed/etc/lava-server/env.yaml"
tar --create --directory "$installed" . | tar --extract --no-overwrite-dir --directory /
rm -rf "$installed"

if [ -e $share ]; then
    # Pages find these here, wherever the other LAVA had them.
    for app in lava_results_app lava_scheduler_app lava_server; do
        rm -rf $share/static/$app
        ln -s $modules/$app/static/$app $share/static/$app
    done
fi
for module in $modules/lava $modules/lava_* $modules/linaro_django_xmlrpc; do
    # Only for speed: some of its files are templates, and no Python.
    [ ! -d $module ] || python3 -m compileall -q $module > /dev/null 2>&1 || true
done

# The image that a database came with has it for the other schema.
if [ -e $here/server/database.sh ] && [ "$before" != "$(migrations)" ]; then
    sh $here/server/database.sh
fi
# A module that this LAVA needs and the image does not have is told here, and not by a
# service that does not start. A pipe would hide it.
echo "$checks" > /tmp/checks
while read -r check; do
    $check > /dev/null
done < /tmp/checks
rm /tmp/checks
