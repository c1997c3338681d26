# SPDX-License-Identifier: Apache-2.0
"""Of setup.py: wheels with the library in them, and without."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PACKAGE))

import kvzip


def makes_wheels():
    places = ("setuptools.command.bdist_wheel", "wheel.bdist_wheel")
    return importlib.util.find_spec("setuptools") and any(
        importlib.util.find_spec(place.split(".")[0]) and importlib.util.find_spec(place) for place in places
    )


@unittest.skipUnless(makes_wheels(), "there is no setuptools that makes wheels")
class Wheel(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.source = self.folder / "source"  # builds beside it are not seen
        shutil.copytree(PACKAGE, self.source, ignore=shutil.ignore_patterns("tests", "build", "*.egg-info", "__pycache__"))

    def run_in(self, folder, *arguments, **environment):
        env = {name: value for name, value in os.environ.items() if name != "KVZIP_LIBRARY"}
        return subprocess.run(
            [sys.executable, *arguments], cwd=folder, env=env | environment, capture_output=True, text=True
        )

    def build(self, **environment):
        return self.run_in(self.source, "setup.py", "-q", "bdist_wheel", "-d", str(self.folder / "made"), **environment)

    def unpacked(self):
        (wheel,) = (self.folder / "made").iterdir()
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(self.folder / "unpacked")
        return wheel.name, self.folder / "unpacked"

    def test_takes_the_library_along(self):
        library = os.environ.get("KVZIP_LIBRARY") or kvzip.library()._name
        if not os.path.exists(library):
            self.skipTest("the library is the system's")
        built = self.build(KVZIP_LIBRARY=os.path.abspath(library))
        self.assertEqual(built.returncode, 0, built.stderr)
        name, folder = self.unpacked()
        self.assertIn("-py3-none-", name)
        self.assertNotIn("none-any", name)
        code = "import kvzip; print(kvzip.version(), kvzip.library()._name)"
        ran = self.run_in(self.folder, "-c", code, PYTHONPATH=str(folder))
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(ran.stdout.split(), [kvzip.version(), str(folder / "kvzip" / "libkvzip.so.0")])

    def test_has_none_where_there_is_none(self):
        built = self.build()
        self.assertEqual(built.returncode, 0, built.stderr)
        name, folder = self.unpacked()
        self.assertIn(f"-{kvzip.__version__}-py3-none-any", name)
        self.assertEqual(list(folder.glob("kvzip/*.so*")), [])
        self.assertTrue((folder / "kvzip" / "transformers.py").exists())

    def test_refuses_a_library_of_another_version(self):
        library = os.environ.get("KVZIP_LIBRARY") or kvzip.library()._name
        start = self.source / "kvzip" / "__init__.py"
        start.write_text(start.read_text().replace(f'__version__ = "{kvzip.__version__}"', '__version__ = "9.9.9"'))
        built = self.build(KVZIP_LIBRARY=library)
        self.assertNotEqual(built.returncode, 0)
        self.assertIn(f"is of version {kvzip.version()}", built.stderr)


if __name__ == "__main__":
    unittest.main()
