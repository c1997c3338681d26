#!/bin/bash
# A dump goes to another machine as a container, compressed on the way: send.sh DUMP FILE_THERE [COMMAND...]
# COMMAND reaches a shell there, as `ssh host` does (the default is `sh -c`, this machine). Nothing is written here; there,
# the name appears once the container is whole: kvzip itself reads it to the end and checks it. Only its owner may read
# it, and what does not arrive whole is removed.
set -euo pipefail
dump=$1
there=$2
shift 2
[ $# -gt 0 ] || set -- sh -c

part=$(printf '%q' "$there.part")
whole=$(printf '%q' "$there")
kvzip compress -q --preset "${PRESET:-kvzip-near}" "$dump" -o - |
  "$@" "umask 077; part=$part; trap 'rm -f -- \"\$part\"' EXIT; trap 'exit 1' HUP INT TERM
    cat > \"\$part\" && kvzip verify -q \"\$part\" && mv -- \"\$part\" $whole"
