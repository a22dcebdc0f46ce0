#!/bin/sh
# While the world's image is built: makes a repository of each folder <host>/.../<name>.git below $1, and puts it below
# $2. Whoever commits, and when, is always the same, and so are the commits. Beside it, for who takes tests from an
# archive, $3/<name>.tar.zst.
set -eu
from=$1 to=$2 archives=$3
export GIT_CONFIG_NOSYSTEM=1 HOME=/nonexistent
export GIT_AUTHOR_NAME=lab GIT_AUTHOR_EMAIL=lab@example.org GIT_AUTHOR_DATE='2026-01-01T00:00:00Z'
export GIT_COMMITTER_NAME=lab GIT_COMMITTER_EMAIL=lab@example.org GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
mkdir -p "$archives"
cd "$from"
find . -type d -name '*.git' | while read -r folder; do
    repository=$to/$folder
    work=$(mktemp -d)
    cp -r "$folder/." "$work"
    git init --quiet --initial-branch=main "$work"
    git -C "$work" add --all
    git -C "$work" commit --quiet --message 'Tests of the lab'
    # Another commit, so that a shallow clone is one.
    git -C "$work" commit --quiet --allow-empty --message 'No change'
    git -C "$work" tag v1
    mkdir -p "$(dirname "$repository")"
    git clone --quiet --bare "$work" "$repository"
    rm -r "$work/.git"
    # Its own root is `.` in it, as `tar` packs a folder.
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --create --directory "$work" . |
        zstd --quiet -o "$archives/$(basename "$folder" .git).tar.zst"
    rm -r "$work"
done
