"""The C functions as typed Python ones: a module here for each file of csrc/.

Alone in importing the extension. No cffi object leaves the package: arrays are classes
of their own, whose ``cdata`` no other package touches. Functions named after a system
call return its result, ``-errno`` for an error, as what an errno means depends on the
caller; the others raise OSError.
"""
