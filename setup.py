"""Builds the C shim that ONNX Runtime loads; everything else is declared in pyproject.toml.

The shim is plain C without Python.h: a shared library, not an extension module. setuptools only builds
extension modules, so its build command is told the two things that differ: the file name (one for all
Python versions) and the exported symbols (no PyInit). It is optional: without a C compiler the package
still installs, and runs on the function bodies.
"""

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SHIM = Extension(
    "krypton_onnx.runtime.custom_ops._shim",
    sources=["krypton_onnx/runtime/custom_ops/shim.c"],
    export_symbols=["RegisterCustomOps", "slot"],
    optional=True,
)


class BuildShim(build_ext):
    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return ext.export_symbols


setup(ext_modules=[SHIM], cmdclass={"build_ext": BuildShim})
