#!/bin/sh
# iso.sh ARCHIVE VOLUME IMAGE: a disc with what is in a tar archive, which is named VOLUME. Its times are those of the archive, and where xorriso writes its own
# that of SOURCE_DATE_EPOCH, so that the same archive makes the same bytes.
set -eu
folder=$(mktemp -d)
tar --extract --file "$1" --directory "$folder"
SOURCE_DATE_EPOCH=0 xorriso -as mkisofs -quiet -rational-rock -volid "$2" -output "$3" "$folder"
rm -r "$folder"
