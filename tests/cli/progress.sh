# Progress: lines of JSON that wait for nobody and stay out of data; on a terminal a line that fits it.
kvzip synth -q -o a.safetensors --layers 8 --heads 8 --head-dim 64 --tokens 1024 --no-query
expect_status 0 kvzip compress a.safetensors -o a.kvz --preset int8 --progress-fd 1
tail -n 1 stdout >last
bytes=$((8 * 2 * 8 * 64 * 1024 * 2 + 1024 * 4)) # keys, values, and the ids of tokens
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

# Not into what it is the progress of.
for command in "compress q.safetensors -c" "compress q.safetensors -o -" "decompress m.kvz -c --to safetensors" \
  "convert q.safetensors - --to safetensors" "cut m.kvz -o - --share 0.1" "verify m.kvz --json" "compare q.safetensors q.safetensors"; do
  # shellcheck disable=SC2086
  expect_status 2 kvzip $command --progress-fd 1
  expect_in stderr "--progress-fd"
  [ ! -s stdout ]
done
expect_status 2 bash -c "kvzip compress q.safetensors -c --progress-fd 3 3>&1"
expect_status 2 kvzip compress q.safetensors -c --progress-fd 77

command -v python3 >/dev/null || return 0
cat >run.py <<'END'
import fcntl, os, pty, re, struct, subprocess, sys, termios
if sys.argv[1] == "full":  # a pipe that nobody empties
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True: os.write(writer, b"x" * 512)
    except BlockingIOError: pass
    os.set_blocking(writer, True)
    sys.exit(subprocess.run(sys.argv[2:] + ["--progress-fd", str(writer)], pass_fds=[writer], timeout=300).returncode)
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
lines = re.findall(rb"\r([^\r\n\x1b]+)\x1b\[K", out)
if any(len(line) >= columns for line in lines): sys.exit("too long: %r" % lines)
sys.stdout.buffer.write(b"\n".join(lines) + b"\n")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
END
expect_status 0 python3 run.py full kvzip compress -q q.safetensors -o full.kvz
kvzip verify -q full.kvz
# Slow enough to say something.
cp a.safetensors a-dump-with-a-name-that-is-longer-than-the-terminal-is-wide.safetensors
expect_status 0 python3 run.py 60 kvzip compress -j 1 -q -f a.safetensors -o a.kvz --preset zstd-19
if grep -q . stdout; then exit 1; fi
expect_status 0 python3 run.py 60 kvzip compress -j 1 a-dump-*.safetensors -o b.kvz --preset zstd-19
grep -qE '^\.\.\.[a-z.]+: .* of 16\.78 MB \(.* %\), .*/s, 1\.[0-9]+x' stdout
mkdir many
for n in 1 2 3 4; do cp a.safetensors many/$n.safetensors; done
expect_status 0 python3 run.py 80 kvzip compress -r many --output-dir packed --jobs 2 --preset zstd-planes
grep -qE '^all: [0-3] of 4 files' stdout
