#!/bin/sh
# The world's container: what LAVA downloads by HTTP and by ssh, and a lab's repositories by git.
set -eu
git daemon --export-all --base-path=/srv/git --reuseaddr --informative-errors /srv/git &
mkdir -p /run/sshd
passwd --quiet --delete root
/usr/sbin/sshd -f /usr/lib/meta-lava/world/sshd_config
exec ghost world --root /srv/artifacts --listen 0.0.0.0:80
