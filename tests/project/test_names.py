"""The public names: their modules, their types, and the cost of their import."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import operator
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

import pmadvise
from pmadvise.selftest import Result

# A contract: users' code is written against these.
PUBLIC = """
    IOV_MAX MAX_RW_COUNT PAGE_SIZE PIDFD_NONBLOCK PIDFD_THREAD
    pidfd_open process_madvise process_madvise_range support
    Advice Advice.remote Advice.destructive
    Ranges Ranges.total Ranges.merged Ranges.split Ranges.from_buffer Ranges.buffer
    Process Process.from_pidfd Process.pid Process.pidfd Process.fileno Process.close
    Process.alive Process.wait Process.status Process.maps Process.resident
    Process.swapped Process.memory Process.check Process.advise Process.cold
    Process.working_set Process.pageout Process.willneed Process.collapse Process.hold
    Process.selection Process.cgroup
    AddressSpace AddressSpace.select AddressSpace.stale AddressSpace.changed
    Vma Vma.start Vma.end Vma.perms Vma.offset Vma.device Vma.inode Vma.path
    Vma.length Vma.private Vma.anonymous
    Report Report.advice Report.requested Report.advised Report.skipped Report.calls
    Report.elapsed Report.longest_call Report.ended Report.before Report.after
    Report.remaining Report.not_tried Report.to_dict
    Remaining
    Skip Skip.address Skip.length Skip.errno Skip.reason
    Status Status.name Status.uid Status.parent Status.state Status.threads
    Status.rss Status.anonymous Status.file
    Status.shmem Status.swap Status.locked Status.cpu Status.major_faults Status.started
    swap Swap Swap.total Swap.free Swap.frees_at_once
    WorkingSet WorkingSet.referenced WorkingSet.resident WorkingSet.coarse
    processes advise_each Pressure Pressure.fileno Pressure.wait Pressure.close
    Memory Memory.rss Memory.pss Memory.uss Memory.anonymous Memory.file Memory.shmem
    Memory.swap Memory.swap_with_shmem Memory.hugetlb Memory.locked
    Hold Hold.method Hold.refused Hold.broken
    Support Support.to_dict Support.other_processes
    Answer Answer.remedy
    TargetSupport AdviseOptions EachOptions Cancel PidfdLike RangesLike
""".split()  # noqa: SIM905 - a list of these would be three times as long


# Of the classes that users make instances of; the others come from a call.
CONSTRUCTORS = {"Pressure.__init__", "Process.__init__", "Ranges.__init__"}


def of_init() -> Iterator[tuple[str, str, bool]]:
    """Yield each name that __init__ imports, the module, and whether it is lazy."""
    tree = ast.parse(Path(pmadvise.__file__).read_text(encoding="utf-8"))
    for node in tree.body:
        for inner in node.body if isinstance(node, ast.If) else [node]:
            if isinstance(inner, ast.ImportFrom) and inner.module != "typing":
                for alias in inner.names:
                    assert alias.asname in (None, alias.name)
                    yield alias.name, inner.module or "", isinstance(node, ast.If)


def test_all_names_are_imported() -> None:
    """__all__ is what is imported at once and what type checkers see of the rest."""
    assert sorted(name for name, _, _ in of_init()) == sorted(pmadvise.__all__)


def test_lazy_names_are_typed() -> None:
    """A name is loaded from the module that type checkers take it from."""
    typed = {name: module for name, module, is_lazy in of_init() if is_lazy}
    lazy = vars(pmadvise)["_LAZY"]
    assert {name: f"pmadvise.{module}" for name, module in lazy.items()} == typed


def absent(names: Iterable[str]) -> list[str]:
    """Return the names, with dots or without, that the package does not have."""
    return [name for name in names if not is_there(name)]


def is_there(name: str) -> bool:
    try:
        operator.attrgetter(name)(pmadvise)
    except AttributeError:
        return False
    return True


def test_promised_names_are_there() -> None:
    """Every public name, and every attribute of one, can be had from the top."""
    assert absent(PUBLIC) == []


def test_names_are_loaded() -> None:
    """Every name of __all__ can be had, and the second time from the module."""
    assert absent(pmadvise.__all__) == []
    values = {name: getattr(pmadvise, name) for name in pmadvise.__all__}
    loaded = vars(pmadvise)
    assert [name for name in values if values[name] is not loaded.get(name)] == []


def test_dir_is_all() -> None:
    """dir() lists the names that are not loaded yet, too."""
    assert sorted(dir(pmadvise)) == sorted(pmadvise.__all__)


def test_unknown_name() -> None:
    """A name that does not exist is an AttributeError of the module."""
    with pytest.raises(AttributeError, match="'pmadvise' has no attribute 'page_out'"):
        _ = pmadvise.page_out


def signatures() -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield the public functions, and the public methods of the public classes."""
    for name in pmadvise.__all__:
        value = getattr(pmadvise, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            yield from methods(name, value)


def methods(name: str, cls: type) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield the functions behind the methods and properties that a class defines."""
    for attribute, value in vars(cls).items():
        if isinstance(value, (classmethod, staticmethod)):
            value = value.__func__  # noqa: PLW2901 - the same method
        elif isinstance(value, property):
            value = value.fget  # noqa: PLW2901 - the same property
        if not inspect.isfunction(value):
            continue
        if f"{name}.{attribute}" in CONSTRUCTORS or not attribute.startswith("_"):
            yield f"{name}.{attribute}", value


def unreadable(functions: Mapping[str, Callable[..., object]]) -> list[str]:
    """Return the functions with an undefined name, or a parameter without a type."""
    return [name for name, function in functions.items() if not is_readable(function)]


def is_readable(function: Callable[..., object]) -> bool:
    try:
        hints = typing.get_type_hints(function)
    except NameError:
        return False
    parameters = inspect.signature(function).parameters
    return set(parameters) - {"self", "cls"} <= set(hints)


def test_type_hints_can_be_read() -> None:
    """Tools that read annotations at run time can: each name in one is defined."""
    assert unreadable(dict(signatures())) == []


def private_types(annotated: Mapping[str, object]) -> list[str]:
    """Return the types in annotations that are not public, each with its owner."""
    public = public_types()
    return [
        f"{name}: {kind.__name__}"
        for name, value in annotated.items()
        for hint in typing.get_type_hints(value).values()
        for kind in ours(hint)
        if kind not in public
    ]


def test_types_are_public() -> None:
    """A user can annotate a wrapper: every type of a signature is at the top."""
    assert private_types(dict(signatures())) == []


def test_types_of_fields_are_public() -> None:
    """And so is every type of a result's fields."""
    values = {name: getattr(pmadvise, name) for name in pmadvise.__all__}
    results = {
        name: value for name, value in values.items() if dataclasses.is_dataclass(value)
    }
    assert "Report" in results
    assert private_types(results) == []


def ours(hint: object) -> Iterator[type]:
    """Yield the classes of this package in an annotation."""
    arguments = typing.get_args(hint)
    for argument in arguments:
        inner = argument if isinstance(argument, list) else [argument]
        for part in inner:
            yield from ours(part)
    if not arguments and inspect.isclass(hint) and hint.__module__.startswith("pmadv"):
        yield hint


def public_types() -> set[type]:
    values = [getattr(pmadvise, name) for name in pmadvise.__all__]
    return {value for value in values if inspect.isclass(value)}


def good(report: pmadvise.Report, *, count: int = 0) -> pmadvise.Ranges:
    raise NotImplementedError


def private(results: list[Callable[[Result], None]]) -> Result:
    raise NotImplementedError


def undefined(report: int) -> None:
    raise NotImplementedError


undefined.__annotations__["report"] = "NoSuchType"


def test_an_absent_name_is_found() -> None:
    """The check of names returns the absent ones, attributes too."""
    absent_names = ["Report.cals", "swop", "swap.x"]
    assert absent(["Report.calls", *absent_names, "swap"]) == absent_names


def test_a_fault_of_a_type_is_found() -> None:
    """The checks of types return each fault, and nothing else."""
    functions: dict[str, Callable[..., object]] = {
        "good": good,
        "bare": lambda report: None,
        "undefined": undefined,
    }
    assert unreadable(functions) == ["bare", "undefined"]
    assert private_types({"good": good, "private": private}) == ["private: Result"] * 2


def test_public_modules_have_no_underscore() -> None:
    """Loading every public name puts no module among the public names."""
    loaded = [getattr(pmadvise, name) for name in pmadvise.__all__]
    assert not [value for value in loaded if isinstance(value, ModuleType)]
