#!/bin/sh
# While the worker's image is built, on Debian or on any image that already has
# a LAVA dispatcher: installs what is missing and no more.
set -eu
here=/usr/lib/meta-lava
export DEBIAN_FRONTEND=noninteractive

sh $here/common/apt-lean.sh setup
apt-get update
dispatcher=
if ! command -v lava-run > /dev/null; then
    version=$(cat $here/common/lava-version 2> /dev/null || true)
    dispatcher="lava-dispatcher${version:+=$version}"
    # What the package asks for and ghosts need not have: the kernel's headers
    # and BPF tools (sharing USB devices with containers), systemd,
    # and what libguestfs would put into its appliance, see guestfs.py.
    sh $here/common/apt-lean.sh absent systemd-sysv kmod \
        linux-headers-generic linux-tools-common python3-bpfcc \
        acl attr binutils btrfs-progs cryptsetup-bin db-util debootstrap dosfstools \
        exfatprogs extlinux f2fs-tools gawk gdisk grub2-common icoutils isc-dhcp-client \
        kpartx ldmtool less lsscsi lvm2 lzop mdadm mtools netpbm ntfs-3g osinfo-db parted \
        pciutils qemu-system-x86 scrub sleuthkit squashfs-tools supermin \
        syslinux uuid-runtime zerofree curl
fi
# git, gdb-multiarch, nbd-server, qemu-img, ...: whatever a deploy or boot method of the
# dispatcher looks up before it starts, and what it changes disks' images by.
apt-get install --yes $dispatcher \
    tftpd-hpa rpcbind nfs-ganesha nfs-ganesha-vfs lighttpd telnet \
    android-sdk-libsparse-utils u-boot-tools bzip2 cpio e2fsprogs fdisk file gdb-multiarch git libarchive-tools nbd-server openssh-client \
    qemu-utils unzip xz-utils zstd iproute2 procps
sh $here/common/apt-lean.sh clean

# LAVA reads this file to learn where to put what a board fetches by TFTP.
cat > /etc/default/tftpd-hpa <<'CFG'
TFTP_USERNAME="tftp"
TFTP_DIRECTORY="/var/lib/lava/dispatcher/tmp"
TFTP_ADDRESS="0.0.0.0:69"
TFTP_OPTIONS="--secure"
CFG
# The coordinator runs beside the server; the default poll is 3 s.
mkdir -p /etc/lava-coordinator
cat > /etc/lava-coordinator/lava-coordinator.conf <<'CFG'
{"port": 3079, "blocksize": 4096, "poll_delay": 1, "coordinator_hostname": "server"}
CFG
# Labs name their repositories by the host that they are on: the world has them all.
git config --system url.git://world/.insteadOf https://
# The world's host, from which LAVA downloads by `scp://`, has another key in each image.
mkdir -p /etc/ssh/ssh_config.d
cat > /etc/ssh/ssh_config.d/meta-lava.conf <<'CFG'
Host world
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
CFG
# GDB cuts what is typed where its terminal ends, which is in the middle of LAVA's paths.
mkdir -p /etc/gdb
echo 'set width 0' >> /etc/gdb/gdbinit
mkdir -p /var/lib/lava/dispatcher/tmp /var/lib/ghost/boards /srv/dispatcher
ln -sfn /var/lib/lava/dispatcher/tmp /srv/dispatcher/tmp
