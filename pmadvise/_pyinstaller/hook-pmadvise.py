"""Hidden imports: those of C code, and those by name on first use."""

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = [
    "_cffi_backend",
    *collect_submodules("pmadvise", filter=lambda name: "_pyinstaller" not in name),
]
