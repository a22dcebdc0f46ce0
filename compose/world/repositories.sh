#!/bin/sh
# While the world's image is built: makes a repository of each folder <host>/.../<name>.git below $1, and puts it below
# $2. Whoever commits, and when, is always the same, and so are the commits. Beside it, for who takes tests from an
# archive, $3/<name>.tar.zst and $3/<name>.tar.bz2.
set -eu
from=$1 to=$2 archives=$3
export GIT_CONFIG_NOSYSTEM=1 HOME=/nonexistent
export GIT_AUTHOR_NAME=lab GIT_AUTHOR_EMAIL=lab@example.org GIT_AUTHOR_DATE='2026-01-01T00:00:00Z'
export GIT_COMMITTER_NAME=lab GIT_COMMITTER_EMAIL=lab@example.org GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
mkdir -p "$archives"
cd "$from"

# What others have in them comes first.
folders() {
    find . -type d -name '*.git' | sort | while read -r folder; do
        if [ -e "$folder/gitmodules" ]; then echo "2 $folder"; else echo "1 $folder"; fi
    done | sort | cut -d ' ' -f 2
}

# The submodules of $1, which its .gitmodules names by addresses of the world's.
submodules() {
    git -C "$1" config --file .gitmodules --get-regexp '\.path$' | while read -r key path; do
        url=$(git -C "$1" config --file .gitmodules "${key%.path}.url")
        commit=$(git --git-dir "$to/${url#https://}" rev-parse main)
        git -C "$1" update-index --add --cacheinfo "160000,$commit,$path"
    done
}

folders | while read -r folder; do
    repository=$to/$folder
    work=$(mktemp -d)
    cp -r "$folder/." "$work"
    # No file of a build context begins with a dot.
    if [ -e "$work/gitmodules" ]; then mv "$work/gitmodules" "$work/.gitmodules"; fi
    git init --quiet --initial-branch=main "$work"
    git -C "$work" add --all
    if [ -e "$work/.gitmodules" ]; then submodules "$work"; fi
    git -C "$work" commit --quiet --message 'Tests of the lab'
    # Another commit, so that a shallow clone is one.
    git -C "$work" commit --quiet --allow-empty --message 'No change'
    git -C "$work" tag v1
    mkdir -p "$(dirname "$repository")"
    git clone --quiet --bare "$work" "$repository"
    rm -r "$work/.git"
    # Its own root is `.` in it, as `tar` packs a folder.
    archive=$archives/$(basename "$folder" .git).tar
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --create --directory "$work" --file "$archive" .
    cat "$archive" | zstd --quiet -o "$archive.zst"
    busybox bzip2 "$archive"
    rm -r "$work"
done
