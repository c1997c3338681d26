#!/bin/bash
# The Python package with the real libraries, which come from PyPI: check-python.sh BUILD FOLDER. FOLDER becomes a virtual
# environment, or is one already; BUILD holds the library, the plugin and the tool. All tests run, none is left out.
# Run it before a release: .ci/run has what Debian 12 has of them.
set -euo pipefail
build=$(realpath "$1") folder=$(realpath -m "$2")
cd "$(dirname "$0")/.."
[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
"$folder/bin/pip" install -q setuptools wheel numpy h5py ml_dtypes transformers torch --extra-index-url https://download.pytorch.org/whl/cpu
"$folder/bin/pip" list 2>/dev/null | grep -E '^(h5py|ml_dtypes|numpy|torch|transformers) '
export KVZIP_LIBRARY=$build/libkvzip.so HDF5_PLUGIN_PATH=$build/hdf5-plugin KVZIP=$build/kvzip
export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 # the models are tiny
"$folder/bin/python" -W ignore -m unittest discover -s python/tests 2>&1 | tee "$folder/tests.log"
! grep -q skipped "$folder/tests.log"
