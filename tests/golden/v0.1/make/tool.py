# SPDX-License-Identifier: Apache-2.0
"""The 0.1 tool, and short forms of what make.py does with it."""

import os
import subprocess
import sys
import tempfile

import inputs as i

if len(sys.argv) != 3:
    sys.exit("usage: make.py KVZIP OUT")
KVZIP, OUT = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../../samples")
if subprocess.run([KVZIP, "--version"], capture_output=True, text=True, check=True).stdout != "kvzip 0.1.0\n":
    sys.exit("these files are those of kvzip 0.1.0")
if os.path.exists(OUT):
    sys.exit(f"{OUT} is there already")
for folder in ("", "/bad", "/unsupported"):
    os.makedirs(OUT + folder)
os.chdir(tempfile.mkdtemp())


def kvzip(*args, **options):
    return subprocess.run([KVZIP, *map(str, args)], check=True, **options)


def compress(name, source, *args):
    kvzip("compress", source, "-o", f"{OUT}/{name}.kvz", "-q", *args)


def synth(path, *args):
    kvzip("synth", "-o", path, "-qf", *args)


def rules(text):
    with open("rules.txt", "w") as f:
        f.write(text)
    return "--preset", "./rules.txt"


def pipelines(name, source, lines, chunk=32, more=""):
    """Layer n: its keys by line 2n, its values by line 2n + 1."""
    text = f"chunk = {chunk}\n{more}"
    for n, line in enumerate(lines):
        text += f"{('key', 'value')[n % 2]}[{n // 2}] = {line}\n"
    if len(lines) % 2:
        text += "value = planes,pack\n"
    compress(name, source, *rules(text))


def stage(name, lines, seed, heads=2, dim=12, tokens=54, chunk=24, dtype="F32"):
    """As many layers as the lines need, in three chunks, the last one shorter. The type is longer than the numbers, so
    that few frames are stored as they are."""
    i.safetensors("stage.safetensors", i.cache(seed, (len(lines) + 1) // 2, heads, dim, tokens, dtype, upcast=True))
    pipelines(name, "stage.safetensors", lines, chunk)
