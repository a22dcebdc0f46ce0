#!/bin/sh
# While the image is built: Coverage.py, and what starts it in each lava-run.
set -eu
here=/usr/lib/meta-lava
export DEBIAN_FRONTEND=noninteractive

sh $here/common/apt-lean.sh setup
apt-get update
apt-get install --yes python3-coverage
sh $here/common/apt-lean.sh clean
# Python runs the lines of such a file that begin with `import` whenever it starts; of those beside
# Coverage.py, once that can be imported.
echo "import sys; sys.path.append('$here/coverage'); import measure; measure.lava_run()" \
    > /usr/lib/python3/dist-packages/meta-lava.pth
