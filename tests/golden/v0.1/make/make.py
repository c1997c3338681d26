#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How the files of tests/golden/v0.1 were made, once, by kvzip 0.1.0: make.py KVZIP OUT, then lists.py KVZIP OUT. A
record, not a tool to run again: what later versions must read is what 0.1 wrote. Needs numpy, ml_dtypes, h5py, xxhash
and zstandard."""

import bad_containers
import bad_dumps
import bad_frames
import coders
import edited
import shapes
import unsupported
import written
from tool import OUT

for make in (
    written.presets,
    written.stages,
    written.rope,
    coders.klt,
    coders.coders,
    written.dtypes,
    shapes.shapes,
    shapes.contents,
    edited.tolerated,
):
    make()

tool = edited.Tool()
containers = {
    **bad_containers.damage(tool),
    **bad_containers.headers(tool),
    **bad_frames.frames(tool),
    **bad_containers.results(edited.read(f"{OUT}/results-max-error-f64.kvz")),
}
for name, data in {**{f"{n}.kvz": d for n, d in containers.items()}, **bad_dumps.dumps()}.items():
    edited.write(f"{OUT}/bad/{name}", data)
for name, data in unsupported.foreign(tool).items():
    edited.write(f"{OUT}/unsupported/{name}", data)
