#!/bin/bash
# The Python package against a library, HDF5's filter and the tool: python.sh LIBKVZIP PLUGIN_DIR KVZIP SOURCE_DIR
# Exit status 77 where no Python here has numpy.
set -euo pipefail
for python in python3 /usr/bin/python3; do
  if "$python" -c 'import numpy' 2>/dev/null; then
    "$python" -c 'import h5py' 2>/dev/null || [ "$python" = /usr/bin/python3 ] || continue
    export KVZIP_LIBRARY=$1 HDF5_PLUGIN_PATH=$2 KVZIP=$3 PYTHONDONTWRITEBYTECODE=1
    exec "$python" -m unittest discover -s "$4/python/tests"
  fi
done
echo "skipped: no Python here has numpy (Debian: python3-numpy)"
exit 77
