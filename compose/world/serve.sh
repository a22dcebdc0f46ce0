#!/bin/sh
# The world's container: what LAVA downloads by HTTP, and a lab's repositories by git.
set -eu
git daemon --export-all --base-path=/srv/git --reuseaddr --informative-errors /srv/git &
exec ghost world --root /srv/artifacts --listen 0.0.0.0:80
