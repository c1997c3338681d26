#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How `checksums` and `messages` were written, once, with kvzip 0.1.0: make_lists.py KVZIP FOLDER."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile

# What a message of 0.1 says, and the words that one with the same meaning has: an extended regular expression, whatever
# upper and lower case. The first line that fits is taken.
WORDS = [
    (r"text.mode", "text.mode"),
    (r"not a \.kvz file", "not a \\.kvz|text.mode"),
    (r"not a format that kvzip knows", "not a format|unknown format"),
    (r"looks like (?:a |compressed with |an? )?(.*?)[:,]", None),
    (r"checksum of the results", "results.*checksum|checksum.*results"),
    (r"header's checksum", "header.*checksum|checksum.*header"),
    (r"checksum", "checksum"),
    (r"cannot open: HDF5 says", "HDF5|truncated"),
    (
        r"does not end with a footer|ends? too early|ends at byte|beyond the end of the file"
        r"|only the first|but only|file has [0-9]+ bytes and says|need [0-9]+ bytes of data|bits end too early",
        "truncated|too early|ends at|end of the file|only|was cut|file has",
    ),
    (r"first 32 bytes", "first 32 bytes|prelude"),
    (r"reserved bytes", "reserved"),
    (r"record of the unknown type", "record.*type"),
    (r"record flags", "flags"),
    (r"needs a feature", "feature|flags"),
    (r"newer", "newer"),
    (r"is not in this build; it needs format ([0-9]+)\.([0-9]+)", r"\1\\.\2"),
    (r"end record", "end record"),
    (r"the results do not", "results"),
    (r"index along axis", "index|axis"),
    (r"index", "index"),
    (r"footer|something follows", "footer|follows"),
    (r"the key (dtype|shape|data_offsets) is missing", r"\1"),
    (r"header is missing", "header"),
    (r"record", "record"),
    (r"frame [0-9]+ is missing", "frame"),
    (r"nested|deeper", "nested|deep"),
    (r"not JSON|no JSON|not valid JSON|start with '\{'|only spaces", "JSON|spaces|'\\{'"),
    (r"header has no '(\w+)'", r"\1|object"),
    (r"header\.model has no", "model"),
    (r"unknown dtype", "dtype"),
    (r"unknown role", "role"),
    (r"'spiral'", "spiral"),
    (r"header\.(?:[\w\[\]]+\.)*(\w+)(?:\[\d+\])? is no", r"\1"),
    (r"no parameter '(\w+)'", r"\1"),
    (r"description of", "description|header"),
    (r"damaged stream|not one frame", "zstd|deflate"),
    (r"the (shape|key) .* there twice|two tensors", "twice|two"),
    (r"there twice|results twice|stored twice", "twice"),
    (r"more (elements|bytes) than fit", "fit|64 bits"),
    (r"larger than 2\^30", "2\\^30|too large|larger"),
    (r"2\^28 frames", "frames"),
    (r"elements are stored", "stored"),
    (r"heads of", "heads"),
    (r"a frame of [0-9]+ (bytes|streams)", "frame"),
    (r"do not fit its text", "ids"),
    (
        r"(left over|left out|belongs to no stage|is missing|raw frame|instead of|too few|label|lane flags"
        r"|frame flags|varint|padding|special value|upper part|coder state|stream method|alphabet"
        r"|ascend|empty stream|no tables|table for a stream|tables of|do not end)",
        r"\1",
    ),
    (r"bytes needed", "needed|too early|too few|left"),
    (r"unknown group|groups of", "group"),
    (r"a step of", "step"),
    (r"group names tensor|group without", "group"),
    (r"axes", "axes"),
    (r"a chunk of", "chunk"),
    (r"exact pipeline", "exact"),
    (r"I16 is not", "I16"),
    (r"window must", "window"),
    (r"quant: bits", "bits"),
    (r"no coder", "coder"),
    (r"longer than 4096", "4096|long"),
    (r"hexadecimal", "hexadecimal"),
    (r"attribute 'a' has", "attribute 'a'"),
    (r"user value", "user"),
    (r"dimensions", "dimensions"),
    (r"the bound", "bound"),
    (r"max_abs", "max_abs"),
    (r"'target'", "target"),
    (r"measure", "measure"),
    (r"must be a (string|JSON object)", r"\1"),
    (r"whole numbers", "whole number"),
    (r"run backwards", "backwards"),
    (r"overlap", "overlap"),
    (r"belong to no tensor", "belong"),
    (r"fill whole bytes", "whole bytes"),
    (r"needs [0-9]+ bytes", "needs [0-9]+"),
    (r"over the format's limit", "limit"),
    (r"storage is smaller", "storage"),
    (r"heap", "heap|names"),
    (r"leads out", "leads out|length"),
    (r"inflated", "inflate|deflate"),
    (r"it states", "states|claims"),
    (r"filter 399", "filter.*399"),
    (r"virtual", "virtual"),
    (r"in another file|to another file", "another file|external"),
]
FOREIGN = {
    "zip archive": "zip",
    "Python pickle": "pickle",
    "GGUF model": "GGUF",
    "gzip": "gzip",
    "llama.cpp session": "llama\\.cpp",
    "llama.cpp sequence": "llama\\.cpp",
    "zstd": "zstd",
    "xz": "xz",
}
# From a file neither the end record nor sequence numbers are looked at (kvz(5)).
UNSEEN = ("end-", "flip-end-hash", "flip-end-payload", "frame-sequence")


def commands(name):
    """What is tried. Headers and streams are read alike from files and from pipes."""
    folder, base = name.split("/")
    kind = base.split("-")[0]
    if not base.endswith(".kvz"):
        return ("compress", "compress -") if "cut" in base or kind in ("text.txt", "zip.pt") else ("compress",)
    if base.startswith(UNSEEN):
        return ("verify", "decompress -")
    if kind in ("json", "stream"):
        return ("decompress",)
    if kind == "frame" and folder == "bad" or base == "stage.kvz":
        return ("verify", "decompress")
    return ("decompress", "decompress -")


def words_of(message):
    place = re.search(r"(layers\.0\.\w+|ids), (?:tokens|frame) ", message)
    for pattern, words in WORDS:
        found = re.search(pattern, message)
        if found:
            words = FOREIGN[found.group(1)] if words is None else found.expand(words)
            return (
                f"{re.escape(place.group(1))}.*({words})"
                if place and "|" in words
                else (f"{re.escape(place.group(1))}.*{words}" if place else words)
            )
    raise ValueError(f"no words for: {message}")


def main():
    kvzip, folder = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    version = subprocess.run([kvzip, "--version"], capture_output=True, text=True, check=True).stdout
    if version != "kvzip 0.1.0\n":
        sys.exit("these lists are those of kvzip 0.1.0")
    names = sorted(
        os.path.relpath(os.path.join(d, f), folder)
        for d in (folder, f"{folder}/bad", f"{folder}/unsupported")
        for f in os.listdir(d)
        if d != folder or f.endswith(".kvz")
    )
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        with open(f"{folder}/checksums", "w") as out:
            for name in names:
                path, decoded = f"{folder}/{name}", "-"
                if "/" not in name:
                    subprocess.run([kvzip, "decompress", path, "-o", "out.safetensors", "-fq"], check=True)
                    with open("out.safetensors", "rb") as f:
                        decoded = hashlib.sha256(f.read()).hexdigest()
                    os.unlink("out.safetensors")
                with open(path, "rb") as f:
                    print(hashlib.sha256(f.read()).hexdigest(), decoded, name, file=out)
        with open(f"{folder}/messages", "w") as out:
            for name in (n for n in names if "/" in n):
                path = f"{folder}/{name}"
                for command in commands(name):
                    verb, pipe = command.split()[0], command.endswith("-")
                    to = ["-o", "out.safetensors" if verb == "decompress" else "out.kvz"] if "compress" in verb else []
                    with open(path, "rb") as source:
                        run = subprocess.run(
                            [kvzip, verb, "-" if pipe else path, *to],
                            capture_output=True,
                            timeout=20,
                            stdin=source if pipe else subprocess.DEVNULL,
                        )
                    message = run.stderr.decode().replace(path, "FILE").splitlines()[0]
                    if (
                        run.returncode not in ((4,) if name.startswith("unsupported") else (1, 3))
                        or os.listdir()
                        or run.stdout
                    ):
                        sys.exit(f"{name}, {command}: {run.returncode} {message}")
                    print(run.returncode, name, command, words_of(message), message, sep="\t", file=out)


main()
