# Progress: lines of JSON that wait for nobody and stay out of data; on a terminal a line that fits it.
kvzip synth -q -o a.safetensors --layers 4 --heads 4 --head-dim 64 --tokens 1024 --no-query
expect_status 0 kvzip compress a.safetensors -o a.kvz --preset int8 --progress-fd 1
tail -n 1 stdout >last
bytes=$((4 * 2 * 4 * 64 * 1024 * 2 + 1024 * 4)) # keys, values, and the ids of tokens
expect_in last "\"what\":\"a.safetensors\",\"done\":$bytes,\"total\":$bytes,\"seconds\":"
written=$(sed 's/.*"written":\([0-9]*\).*/\1/' last)
size=$(stat -c %s a.kvz)
[ "$written" -lt "$size" ] && [ "$written" -gt $((size * 9 / 10)) ]
kvzip synth -q -o q.safetensors --layers 2 --heads 2 --head-dim 16 --tokens 64
expect_status 0 kvzip attend q.safetensors -o o.safetensors --progress-fd 1
tail -n 1 stdout >last
expect_in last '"done":2,"total":2,'
expect_in last '"unit":"layers"'
kvzip compress -q q.safetensors -o m.kvz --preset matryoshka
expect_status 0 kvzip cut m.kvz -o small.kvz --share 0.2 --progress-fd 1
tail -n 1 stdout >last
expect_in last "\"total\":$(stat -c %s m.kvz)"

expect_status 0 kvzip prune q.safetensors few.safetensors --keep 50% --progress-fd 1
grep '"what":"scores"' stdout | tail -n 1 >last
expect_in last '"done":2,"total":2,'
expect_in last '"unit":"layers"'
# What goes before the coding, what comes behind it, and what is measured.
expect_status 0 kvzip compress -f a.safetensors -o a.kvz --progress-fd 1
expect_in stdout '"what":"saliency","done":4,"total":4,'
expect_status 0 kvzip compress -f q.safetensors -o q.kvz --preset int8 --pages 16 --progress-fd 1
expect_in stdout '"what":"pages","done":2,"total":2,'
expect_status 0 kvzip compress -f q.safetensors -o q.kvz --key klt:basis=tensor,quant:bits=4,pack --progress-fd 1
expect_in stdout '"what":"tables","done":2,"total":2,'
cp q.safetensors gone.safetensors
expect_status 0 kvzip compress gone.safetensors --rm --preset int8 --progress-fd 1
grep '"what":"reading gone.safetensors.kvz"' stdout | tail -n 1 >last
grep -qE '"done":([0-9]+),"total":\1,' last
mkdir turns
kvzip compress -q a.safetensors -o cut.kvz --tokens 0:1000 -1
kvzip decompress -q cut.kvz -o turns/1.safetensors
cp a.safetensors turns/2.safetensors
expect_status 0 kvzip compress -r turns -o turns.kvz.tar --share-prefix --preset int8 --progress-fd 1
expect_in stdout '"what":"prefixes","done":2,"total":2,'
grep '"what":"comparing with turns/1.safetensors"' stdout | tail -n 1 >last
expect_in last '"done":8,"total":8,'
expect_status 0 kvzip bench q.safetensors --presets int4 --runs 2 --progress-fd 3 3>lines
bytes=$((4 * 2 * 2 * 2 * 16 * 64 * 2)) # memcpy, zstd twice and the preset
tail -n 1 lines >last
expect_in last "\"what\":\"bench q.safetensors\",\"done\":$bytes,\"total\":$bytes,"
expect_status 0 kvzip bench m.kvz --io --runs 1 --progress-fd 3 3>lines
tail -n 1 lines >last
expect_in last '"done":12,"total":12,'
expect_in last '"unit":"reads"'
# Pipes that are copied before they are read: of which the end is not known before it is there.
kvzip convert -q a.safetensors a.npz
expect_status 0 bash -c "cat a.npz | kvzip inspect - --progress-fd 3 3>lines"
expect_in lines '"what":"copy of standard input","done":1048576,"total":null,'
grep '"what":"copy of standard input"' lines | tail -n 1 >last
expect_in last "\"done\":$(stat -c %s a.npz),\"total\":$(stat -c %s a.npz),"
for command in compress decompress append inspect verify recover cut compare sweep bench convert prune attend pages synth; do
  kvzip $command --help >page
  expect_in page "--progress-fd"
done

# Not into what it is the progress of.
kvzip compress -q q.safetensors -o p.kvz --preset int8 --pages 16
for command in "compress q.safetensors -c" "compress q.safetensors -o -" "decompress m.kvz -c --to safetensors" \
  "convert q.safetensors - --to safetensors" "cut m.kvz -o - --share 0.1" "verify m.kvz --json" "compare q.safetensors q.safetensors" \
  "sweep q.safetensors --presets int4 --csv" "sweep q.safetensors --presets int4 --json" "recover m.kvz --json" \
  "recover m.kvz -o - --to kvz" "recover m.kvz -o - --to safetensors" \
  "prune q.safetensors - --keep 50% --to safetensors" \
  "attend q.safetensors -o - --to safetensors" "synth -o - --to safetensors --layers 1 --heads 1 --head-dim 8 --tokens 8" \
  "pages p.kvz" "bench q.safetensors --presets int4" "bench m.kvz --io" "inspect m.kvz" "compress q.safetensors -o x.kvz --json" "decompress m.kvz -o x.safetensors --json"; do
  # shellcheck disable=SC2086
  expect_status 2 kvzip $command --progress-fd 1
  expect_in stderr "--progress-fd"
  [ ! -s stdout ]
done
expect_status 2 bash -c "kvzip compress q.safetensors -c --progress-fd 3 3>&1"
expect_status 2 kvzip compress q.safetensors -c --progress-fd 77
# Where nothing stays, nothing mixes.
kvzip compare q.safetensors q.safetensors --progress-fd 1 >/dev/null
kvzip recover m.kvz --json -q --progress-fd 3 3>/dev/null >/dev/null

command -v python3 >/dev/null || return 0
cat >run.py <<'END'
import fcntl, os, pty, re, socket, struct, subprocess, sys, termios
def run(writer, words):  # its description is not changed
    got = subprocess.run(words + ["--progress-fd", str(writer)], pass_fds=[writer], timeout=300).returncode
    sys.exit(got or not os.get_blocking(writer))
if sys.argv[1] == "full":  # a pipe or a socket that nobody empties
    if sys.argv[2] == "pipe": reader, writer = os.pipe()
    else: ends = socket.socketpair(); reader, writer = (end.fileno() for end in ends)
    os.set_blocking(writer, False)
    for size in 512, 1:
        try:
            while True: os.write(writer, b"x" * size)
        except BlockingIOError: pass
    os.set_blocking(writer, True)
    run(writer, sys.argv[3:])
if sys.argv[1] == "small":  # a pipe that nobody empties, for whose only page all workers vie
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
    run(writer, sys.argv[2:])
columns = int(sys.argv[1])
child, fd = pty.fork()
if child == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
out = b""
while True:
    try: some = os.read(fd, 4096)
    except OSError: break
    if not some: break
    out += some
    if b" of 4 files" in out: open("shown", "w").close()
lines = re.findall(rb"\r([^\r\n\x1b]+)\x1b\[K", out)
if any(len(line) >= columns for line in lines): sys.exit("too long: %r" % lines)
sys.stdout.buffer.write(b"\n".join(lines) + b"\n")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
END
for kind in pipe socket; do
  expect_status 0 python3 run.py full $kind kvzip compress -q -f q.safetensors -o full.kvz
  kvzip verify -q full.kvz
done
mkdir many
for n in 1 2 3 4 5 6 7 8; do cp q.safetensors many/$n.safetensors; done
expect_status 0 python3 run.py small kvzip compress -q -r many --output-dir packed --jobs 4
rm many/[4-8].safetensors

# Slow enough to say something: who reads the output stops for longer than half a second once some of it is made.
cp a.safetensors a-dump-with-a-name-that-is-longer-than-the-terminal-is-wide.safetensors
mkfifo out.kvz
slowly() { # COMMAND...: its output is `out.kvz`
  timeout 60 bash -c '{ head -c 100000 && sleep 0.8 && cat; } <out.kvz >/dev/null' &
  expect_status 0 python3 run.py 60 "$@"
  wait $!
}
slowly kvzip compress -q a.safetensors -o out.kvz --preset lossless
if grep -q . stdout; then exit 1; fi
slowly kvzip compress a-dump-*.safetensors -o out.kvz --preset lossless
grep -qE '^\.\.\.[a-z.]+: .* of 4\.20 MB \(.* %\), .*/s, 1\.[0-9]+x' stdout
# An input that does not come before the line of the batch does.
mkfifo many/last.safetensors
timeout 60 bash -c '{ until [ -e shown ]; do sleep 0.1; done && cat q.safetensors; } >many/last.safetensors' &
expect_status 0 python3 run.py 80 kvzip compress -f many/*.safetensors --output-dir packed --jobs 2
wait $!
grep -qE '^all: [0-3] of 4 files' stdout
