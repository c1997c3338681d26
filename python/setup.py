# SPDX-License-Identifier: Apache-2.0
"""A wheel with libkvzip.so in it: the one that KVZIP_LIBRARY names, else that of ../build/release. Without either it has
none, and the package looks for what the system has."""

import ctypes
import os
import pathlib
import shutil

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # before setuptools 70.1
    from wheel.bdist_wheel import bdist_wheel

SONAME = "libkvzip.so.0"
HERE = pathlib.Path(__file__).resolve().parent


def library():
    named = os.environ.get("KVZIP_LIBRARY")
    path = pathlib.Path(named) if named else HERE.parent / "build" / "release" / SONAME
    if not named and not path.exists():
        return None
    loaded = ctypes.CDLL(str(path.resolve()))
    loaded.kvzip_version.restype = ctypes.c_char_p
    version = loaded.kvzip_version().decode()
    if f'\n__version__ = "{version}"' not in (HERE / "kvzip" / "__init__.py").read_text():
        raise SystemExit(f"{path} is of version {version}, this package of another")
    return path.resolve()


LIBRARY = library()


class BuildPy(build_py):
    def run(self):
        super().run()
        folder = pathlib.Path(self.build_lib) / "kvzip"
        for left in folder.glob("libkvzip.so*"):  # of an earlier build
            left.unlink()
        if LIBRARY is not None and not getattr(self, "editable_mode", False):
            shutil.copy(LIBRARY, folder / SONAME)


class Machines(Distribution):
    """Of one kind of machine, where a library comes along."""

    def has_ext_modules(self):
        return LIBRARY is not None


class Wheel(bdist_wheel):
    def get_tag(self):
        tag = super().get_tag()
        return tag if LIBRARY is None else ("py3", "none", tag[2])  # any Python: ctypes loads it


setup(distclass=Machines, cmdclass={"build_py": BuildPy, "bdist_wheel": Wheel})
