# archive.sh MIRROR SUITE...: for each suite of Debian's archive a line: its name, and the
# version of lava-server in it; `-` where it has none, `?` where the archive has no such suite.
# Without a MIRROR it is that of apt's own sources; exit code 9 where they have none of Debian's.
# Without a SUITE it says which mirror that is.
# What it asks with is apt, with a state folder of its own; signatures are checked.
set -eu
mirror=$1
shift
if [ -z "$mirror" ]; then
    # By what the sources say of themselves, or, where they were never asked, by their names.
    mirror=$({
        apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian'
        apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/*$' || true
    } | sed -n 1p)
    [ -n "$mirror" ] || exit 9
fi
if [ $# = 0 ]; then
    echo "$mirror"
    exit
fi
state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
mkdir -p "$state/lists/partial" "$state/archives/partial"
# The machine's way to the network, and nothing else that it has set.
apt-config dump Acquire | grep -v '^Acquire::\(IndexTargets\|Languages\)' > "$state/apt.conf" || true
cat >> "$state/apt.conf" <<CFG
Dir::Etc::Main "-";
Dir::Etc::Parts "/dev/null";
Dir::Etc::SourceList "$state/sources.list";
Dir::Etc::SourceParts "-";
Dir::State "$state";
Dir::State::Lists "$state/lists";
Dir::State::Status "/dev/null";
Dir::Cache "$state";
Dir::Log "$state";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
CFG
keys=
for keyring in /usr/share/keyrings/debian-archive-keyring.pgp /usr/share/keyrings/debian-archive-keyring.gpg; do
    [ ! -e $keyring ] || keys="[signed-by=$keyring]"
done
for suite in "$@"; do
    echo "deb $keys $mirror $suite main"
done > "$state/sources.list"
export APT_CONFIG="$state/apt.conf" LC_ALL=C.UTF-8
apt-get update > "$state/said" 2>&1 || true
apt-cache madison lava-server > "$state/found"
for suite in "$@"; do
    version=$(sed -n "s,^ *lava-server *| *\([^ ]*\) *|.* $suite/main .*,\1,p" "$state/found" | head -n 1)
    if [ -n "$version" ]; then
        echo "$suite $version"
    elif ls "$state/lists/"*"_dists_${suite}_main_"*Packages* > /dev/null 2>&1; then
        echo "$suite -"
    elif grep -q " $suite Release' does not have a Release file" "$state/said"; then
        echo "$suite ?"
    else
        cat "$state/said" >&2
        exit 1
    fi
done
