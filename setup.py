"""What pyproject.toml cannot say: the CFFI module and the wheel's ABI tag."""

import sysconfig

from setuptools import setup

# Free-threaded CPython before 3.15 has no limited API: its wheel is its own.
limited_api = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=["build_pmadvise.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if limited_api else {},
)
