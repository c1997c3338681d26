#!/bin/bash
# Checks that every source file is as clang-format leaves it (.clang-format).
set -euo pipefail
cd "$(dirname "$0")/.."
find include codec formats src tests samples '(' -name '*.[ch]pp' -o -name '*.[ch]' ')' -print0 | xargs -0 clang-format-14 --dry-run -Werror
