"""Records behave as dataclasses do, and load no module for it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys

import pytest

import pmadvise
from pmadvise import Answer, Remaining, Skip, Status
from pmadvise._record import as_dict, record, replaced


@record
class Ours:
    """Some fields."""

    x: int
    """A number."""
    y: str = "d"

    def twice(self) -> int:
        """Return twice the number."""
        return 2 * self.x


@dataclasses.dataclass(frozen=True, slots=True)
class Theirs:
    """Some fields."""

    x: int
    y: str = "d"


@record
class Checked:
    """One that checks, and changes, a field."""

    x: int
    rest: tuple[Ours, ...] = ()

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("negative")
        object.__setattr__(self, "x", self.x + 1)


def test_as_a_dataclass() -> None:
    """repr, ==, hash, defaults, keywords, patterns and signature are the same."""
    ours, theirs = Ours(1), Theirs(1)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    other: object = theirs
    assert (ours == Ours(x=1, y="d"), ours == Ours(2), ours == other) == (
        *(True, False, False),
    )
    assert hash(ours) == hash(Ours(1)) == hash(theirs)
    assert Ours.__match_args__ == Theirs.__match_args__
    assert inspect.signature(Ours).parameters == inspect.signature(Theirs).parameters
    assert Ours.__doc__ == "Some fields."
    assert ours.twice() == 2
    assert not hasattr(ours, "__dict__")


def test_functions_of_dataclasses() -> None:
    """fields(), asdict() and replace() take it; so do copy and pickle."""
    ours = Ours(1, "e")
    assert dataclasses.is_dataclass(ours)
    assert [f.name for f in dataclasses.fields(ours)] == ["x", "y"]
    assert dataclasses.asdict(ours) == as_dict(ours) == {"x": 1, "y": "e"}
    assert dataclasses.replace(ours, x=3) == replaced(ours, x=3) == Ours(3, "e")
    assert copy.copy(ours) == copy.deepcopy(ours) == ours
    assert pickle.loads(pickle.dumps(ours)) == ours


def test_frozen() -> None:
    """No field can be set or deleted, no other attribute added."""
    ours = Ours(1)
    for name in ("x", "other"):
        with pytest.raises(dataclasses.FrozenInstanceError, match=name):
            setattr(ours, name, 2)
        with pytest.raises(AttributeError, match=name):
            delattr(ours, name)


def test_wrong_arguments() -> None:
    """They are refused as by a function."""
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        Ours()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        Ours(1, z=2)  # type: ignore[call-arg]


def test_post_init_and_nesting() -> None:
    """__post_init__ runs; records within records become dicts too."""
    checked = Checked(1, (Ours(5),))
    assert checked.x == 2
    assert as_dict(checked) == {"x": 2, "rest": ({"x": 5, "y": "d"},)}
    with pytest.raises(ValueError, match="negative"):
        Checked(-1)


def test_public_ones() -> None:
    """Those of the package are records that dataclasses knows."""
    for kind in (Answer, Remaining, Skip, Status, pmadvise.Report, pmadvise.Swap):
        assert dataclasses.is_dataclass(kind)
    skip = Skip(4096, 8192, 12, "why")
    assert "0x1000" in repr(skip)  # its own


def test_nothing_is_loaded() -> None:
    """Process comes without dataclasses and inspect."""
    code = "import sys; from pmadvise import Process; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"dataclasses", "inspect", "typing"} & set(loaded)
