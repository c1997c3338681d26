#!/bin/bash
# The Python package against a library: python.sh LIBKVZIP SOURCE_DIR. Exit status 77 where no Python here has numpy.
set -euo pipefail
for python in python3 /usr/bin/python3; do
  if "$python" -c 'import numpy' 2>/dev/null; then
    export KVZIP_LIBRARY=$1 PYTHONDONTWRITEBYTECODE=1
    exec "$python" -m unittest discover -s "$2/python/tests"
  fi
done
echo "skipped: no Python here has numpy (Debian: python3-numpy)"
exit 77
