# Mistyped words of closed sets: what is meant is said.
kvzip synth -q -o a.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 64
kvzip compress -q a.safetensors -o a.kvz --preset int8
meant() { # WORD COMMAND...
  local word=$1 status=0
  shift
  "$@" >stdout 2>stderr </dev/null || status=$?
  [ $status = 1 ] || [ $status = 2 ] || { echo "status $status: $*" >&2 && exit 1; }
  expect_in stderr "did you mean '$word'?"
  [ "$(wc -l <stderr)" = 1 ]
}
meant compress kvzip compres a.safetensors
meant presets kvzip list preset
meant kivi-2 kvzip compress a.safetensors --preset kivi2
meant quant kvzip compress a.safetensors -o x.kvz --key qaunt:bits=4,pack
meant bits kvzip compress a.safetensors -o x.kvz --key quant:bit=4,pack
meant channel kvzip compress a.safetensors -o x.kvz --key quant:bits=4:axis=chanel,pack
meant quant kvzip sweep a.safetensors --presets int4 --grid 'qaunt.bits=2'
meant bits kvzip sweep a.safetensors --presets int4 --grid 'quant.bit=2'
meant nrmse kvzip sweep a.safetensors --presets int4 --measure nmrse
meant safetensors kvzip decompress a.kvz -o x --to safetensor
meant safetensors kvzip recover a.kvz -o x --to safetensor
meant value kvzip decompress a.kvz -o x.safetensors --role key,valeu
meant token kvzip compress a.safetensors -o x.kvz --order tokne
meant queries kvzip compress a.safetensors -o x.kvz --saliency querys
meant tokens kvzip compress a.safetensors -o x.kvz --join token
meant keyformer kvzip prune a.safetensors x.safetensors --keep 50% --policy keyforme
meant layer kvzip prune a.safetensors x.safetensors --keep 50% --by layers
meant bf16 kvzip synth -o x.h5 --layers 1 --heads 1 --head-dim 8 --tokens 8 --dtype bf1
meant value kvzip inspect a.safetensors --map '*=valeu:HTD'
meant dtype kvzip inspect a.safetensors --map '*=key:HTD:dtyp=bf16'
meant value kvzip inspect a.safetensors --raw valeu:HTD:f16:2x-x32
meant bash kvzip completion bsh
first=$(kvzip bench a.safetensors --target none 2>&1 | sed 's/.* have //; s/,.*//' || true)
meant "$first" kvzip bench a.safetensors --target "${first}X"
echo 'keys[*] = quant:bits=4,pack' >preset.txt
meant key kvzip compress a.safetensors -o x.kvz --preset ./preset.txt
kvzip sweep -q a.safetensors --presets int8,gear-2 --json >sweep.json
echo '0 20' >link
meant gear-2 kvzip plan sweep.json --bandwidth link --slo 1 --recompute-ms-per-token 1 --settings gaer-2
[ ! -e x.kvz ] && [ ! -e x ] && [ ! -e x.safetensors ] && [ ! -e x.h5 ]

# Options before the command, and numbers that are none.
says() {
  local expected=$1
  shift
  expect_status 2 kvzip "$@"
  expect_in stderr "$expected"
}
says "options go behind the command: kvzip verify --memlimit" --memlimit 64M verify a.kvz
says "options go behind the command: kvzip compress -q" -q compress a.kvz
says "options go behind the command: kvzip compress -o" -o b.kvz compress a.kvz
says "--rope-theta: nan is not a number from 0 to 1e+12" synth -o x.h5 --layers 1 --heads 1 --head-dim 4 --tokens 4 --rope-theta nan
says "--heads: -1 is not a whole number from 0 to 4294967295" synth -o x.h5 --layers 1 --heads -1 --head-dim 4 --tokens 4
says "--share: nan is not a number from 0 to 1" cut a.kvz -o b.kvz --share nan
says "--split: 1e9 is not a whole number" compare a b --split 1e9
says "--pages: 0x10 is not a whole number from 1 to 65536" compress a --pages 0x10
says "-k keeps inputs, --rm removes them: choose one" compress a.safetensors -k --rm
