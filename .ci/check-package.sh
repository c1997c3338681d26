#!/bin/bash
# Makes Debian packages and a source archive of a build, and looks at what is in them: check-package.sh BUILD_DIR
# The packages are unpacked, not installed; the source is configured, not built: the build was.
set -euo pipefail
build=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cpack --config "$build/CPackConfig.cmake" -B "$work/deb" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
root=$work/root
for package in "$work"/deb/*.deb; do
  dpkg-deb -x "$package" "$root"
  dpkg-deb -f "$package" Package Version Depends
done
run() { env LD_LIBRARY_PATH="$root/usr/lib" PYTHONPATH="$root/usr/lib/python3/dist-packages" PATH="$root/usr/bin:$PATH" "$@"; }
version=$(sed -nE 's/^project\(kvzip VERSION ([0-9.]+) .*/\1/p' CMakeLists.txt)
[ "$(run kvzip --version | head -n 1)" = "kvzip $version" ]
[ "$(run /usr/bin/python3 -c 'import kvzip; print(kvzip.version())')" = "$version" ]
bash -n "$root/usr/share/bash-completion/completions/kvzip"
for page in man1/kvzip.1 man3/kvzip.3 man5/kvz.5 man7/kvzip-pipeline.7; do test -s "$root/usr/share/man/$page"; done

cpack --config "$build/CPackSourceConfig.cmake" -B "$work/source" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
tar -C "$work" -xf "$work/source/kvzip-$version.tar.xz"
(cd "$work/kvzip-$version" && find . -type f -printf '%P\n') | sort >"$work/packed"
if git rev-parse --git-dir >/dev/null 2>&1; then git ls-files | sort | diff - "$work/packed"; fi
cmake -G Ninja -S "$work/kvzip-$version" -B "$work/configured" >/dev/null
echo "kvzip-$version.tar.xz: $(wc -l <"$work/packed") files"
