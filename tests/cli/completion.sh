# completion: bash's script completes commands, options and values that the parser has; each shell that is there reads its own.
for shell in bash zsh fish; do
  expect_status 0 kvzip completion $shell
  cp stdout kvzip.$shell
  expect_in kvzip.$shell decompress
  expect_in kvzip.$shell near-lossless
  ! command -v $shell >/dev/null || $shell -n kvzip.$shell
done
expect_status 2 kvzip completion
expect_status 2 kvzip completion csh

# shellcheck disable=SC1091
source kvzip.bash
complete_line() { # WORDS...: what the last of them can become
  COMP_WORDS=(kvzip "$@")
  COMP_CWORD=$#
  COMPREPLY=()
  _kvzip
  echo " ${COMPREPLY[*]} "
}
[ "$(complete_line dec)" = " decompress " ]
[[ "$(complete_line '')" == *" compress "*" verify "* ]]
[[ "$(complete_line --ver)" == *" --version "* ]]
[ "$(complete_line compress --chunk)" = " --chunk-tokens " ]
[ "$(complete_line compress a.h5 --preset near)" = " near-lossless " ]
[[ "$(complete_line decompress --to saf)" == " safetensors " ]]
: >some-file.kvz
[ "$(complete_line verify some)" = " some-file.kvz " ]
: >"two words.kvz"
COMP_WORDS=(kvzip verify two) COMP_CWORD=2
_kvzip
[ "${#COMPREPLY[@]}" = 1 ] && [ "${COMPREPLY[0]}" = "two words.kvz" ]
[ "$(complete_line -d some)" = " some-file.kvz " ]
[ "$(complete_line -f -9 some)" = " some-file.kvz " ]
[ "$(complete_line list pre)" = " presets " ]
[ "$(complete_line completion z)" = " zsh " ]
[ "$(complete_line compress a.h5 --saliency pr)" = " proxy " ]
[ "$(complete_line compress a.h5 --preset = kivi-4)" = " kivi-4 " ]
[ "$(complete_line sweep a.h5 --presets int8,kivi-4)" = " int8,kivi-4 " ]
[ "$(complete_line prune a.h5 b.h5 --policy key)" = " keyformer " ]
[ "$(complete_line prune a.h5 b.h5 --by la)" = " layer " ]
[ "$(complete_line compress a.h5 --order to)" = " token " ]
[ "$(complete_line compress a.h5 --role k)" = " key kv " ]
[ "$(complete_line compress a.h5 --role key,)" = " key,value key,query key,other key,kv " ]
[ "$(complete_line compress a.h5 --memlimit 5)" = " 512M 50% " ]
[ "$(complete_line compress a.h5 --chunk-tokens '')" = "  " ]
[ "$(complete_line compress some-file.kvz --tables some)" = " some-file.kvz " ]
[ "$(complete_line bench a.h5 --target '')" = " $(kvzip bench a.h5 --target '?' 2>&1 | sed 's/.* have //; s/,//g') " ]
[ "$(complete_line sweep a.h5 --measure nrms)" = " nrmse " ]
[ "$(complete_line compress a.h5 --key outl)" = " outliers " ]
[ "$(complete_line compress a.h5 --key outliers,lowr)" = " outliers,lowrank " ]
[ "$(complete_line compress a.h5 --key outliers : sh)" = " share= " ]
[ "$(complete_line compress a.h5 --key = outliers : share = 0.02,quant : bi)" = " bits= " ]
[ "$(complete_line compress a.h5 --value outliers : share = 0.02,lowr)" = " 0.02,lowrank " ]
[ "$(complete_line compress a.h5 --value quant : bits = '')" = "  " ]
[ "$(complete_line help dec)" = " decompress " ]
[ "$(complete_line hel)" = " help " ]
[[ "$(complete_line -)" == *" -d "*" -t "*" -9 "* ]]
[ "$(complete_line --dec)" = " --decompress " ]
# Every option of every command, as its help shows it.
for command in $(kvzip --help | awk '/^[A-Z]/ { inside = $1 == "Commands:"; next } inside && /^  [a-z]/ { print $1 }'); do
  found=$(complete_line "$command" --)
  for option in $(kvzip "$command" --help | awk '/^[A-Z]/ { inside = $1 == "Options:"; next } inside && /^  -/ { print $1 }' |
    grep -oE -- '--[a-z0-9-]+'); do
    [[ $found == *" $option "* ]] || { echo "$command $option is not completed" >&2 && exit 1; }
  done
done
