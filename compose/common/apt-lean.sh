#!/bin/sh
# Shared by the server's and the worker's image: makes apt quick and small.
#
# apt-lean.sh setup           no fsync, no manual pages, no services started
# apt-lean.sh absent PKG...   tells dpkg that PKG is there although it is not
# apt-lean.sh clean           compiles Python's modules, drops what apt left
#
# `absent` is for what a package asks for and no job of ours ever calls: a real
# qemu, kernel headers, LLVM for PostgreSQL's JIT. Never for a part of LAVA.
set -eu

case "$1" in
setup)
    # lava-server's static/docs is a link into its documentation and gunicorn
    # does not start when that link dangles: keep it.
    cat > /etc/dpkg/dpkg.cfg.d/meta-lava <<'CFG'
force-unsafe-io
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-include=/usr/share/doc/lava*
path-exclude=/usr/share/zoneinfo/right/*
path-exclude=/usr/share/augeas/*
path-exclude=/usr/lib/postgresql/*/lib/bitcode/*
path-exclude=/usr/lib/python3/*/locale/*/LC_MESSAGES/*
path-include=/usr/lib/python3/*/locale/en/LC_MESSAGES/*
path-exclude=/usr/lib/python3/*/locale/*/formats.py
path-include=/usr/lib/python3/*/locale/en/formats.py
CFG
    cat > /etc/apt/apt.conf.d/90meta-lava <<'CFG'
Acquire::Languages "none";
Acquire::Retries "3";
# A mirror may be behind; what it has is signed all the same.
Acquire::Check-Valid-Until "false";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
CFG
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    # One compiler for all modules at the end, not a Python for each package:
    # 35 s less for the server.
    if [ ! -e /usr/bin/py3compile ]; then
        dpkg-divert --quiet --local --rename --add /usr/bin/py3compile
        ln -s /bin/true /usr/bin/py3compile
    fi
    ;;
absent)
    shift
    dir=$(mktemp -d)
    mkdir -p "$dir/DEBIAN"
    provides=
    for package in "$@"; do
        # A version high enough for any versioned dependency.
        provides="${provides:+$provides, }$package (= 999:999)"
    done
    cat > "$dir/DEBIAN/control" <<CONTROL
Package: meta-lava-absent
Version: 1
Architecture: all
Maintainer: meta-lava <root@localhost>
Provides: $provides
Description: stands for packages that the harness never calls
CONTROL
    dpkg-deb --build --root-owner-group "$dir" /tmp/absent.deb > /dev/null
    dpkg --install /tmp/absent.deb
    rm -rf "$dir" /tmp/absent.deb
    ;;
clean)
    if [ -e /usr/bin/py3compile.distrib ]; then
        rm /usr/bin/py3compile
        dpkg-divert --quiet --local --rename --remove /usr/bin/py3compile
        python3 -m compileall -q -j 0 -x '/(tests?|lib2to3|locale|setuptools|prompt_toolkit|pyasn1_modules|docutils|providers|backends)/' /usr/lib/python3/dist-packages || true
    fi
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb \
        /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/apt /var/log/dpkg.log
    ;;
esac
