"""The command `pmadvise`: look at the memory of processes, and advise it.

Needs the extra `cli`; nothing else of the package imports this, or what it needs.
"""
