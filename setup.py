"""The one build step that pyproject.toml cannot say: weights_manifest.json goes into the wheel.

The manifest lives at the root of the repository, where people look for it. In a wheel it lies in
`sketch_core/`, because nothing but `sketch_core` belongs into somebody's site-packages.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithManifest(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            self.copy_file(
                "weights_manifest.json", str(Path(self.build_lib, "sketch_core", "weights_manifest.json"))
            )

    def get_source_files(self):  # so that a source archive can build the wheel too
        return [*super().get_source_files(), "weights_manifest.json"]


setup(cmdclass={"build_py": BuildWithManifest})
