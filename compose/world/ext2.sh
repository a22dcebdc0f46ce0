#!/bin/sh
# ext2.sh ARCHIVE KIB IMAGE: a file system with what is in a tar archive. genext2fs takes owners and times from there; e2fsprogs then
# have its folders say what each entry is, as all newer file systems' do.
set -eu
genext2fs --faketime --block-size 1024 --size-in-blocks "$2" --number-of-inodes 2048 --tarball "$1" "$3"
tune2fs -O filetype "$3"
# 1: it has corrected something, which it is called for.
e2fsck -fy "$3" || [ $? = 1 ]
