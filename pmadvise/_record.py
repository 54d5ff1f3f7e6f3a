"""Records: frozen classes of named fields, as dataclasses makes, but quick to import.

`dataclasses` loads `inspect`, which takes longer than all the rest that a daemon loads.
Its functions take a record all the same, and load it then.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn, TypeVar

    from typing_extensions import dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_):
        """Return a decorator that does nothing: it is for type checkers."""
        return lambda function: function


class _Fields:
    """The `__dataclass_fields__` of a record, made when somebody asks for them."""

    def __get__(self, _: object, owner: type) -> object:
        from dataclasses import field, make_dataclass  # noqa: PLC0415 - slow to import

        defaults, annotations = vars(owner)["_defaults"], owner.__annotations__
        made = make_dataclass(
            owner.__name__,
            [
                (name, annotations[name], field(default=defaults[name]))
                if name in defaults
                else (name, annotations[name])
                for name in _names(owner)
            ],
        )
        return vars(made)["__dataclass_fields__"]


def _init(
    cls: type, names: tuple[str, ...], defaults: Mapping[str, object], more: bool
) -> Callable[..., None]:
    """Return an __init__() that stores its arguments, past __setattr__()."""
    arguments = [
        f"{name}=_defaults[{name!r}]" if name in defaults else name for name in names
    ]
    lines = [f"def __init__(self, {', '.join(arguments)}):"]
    lines += [f"    _set_{name}(self, {name})" for name in names]
    lines += ["    self.__post_init__()"] * more
    scope: dict[str, Callable[..., None]] = {}
    setters = {f"_set_{name}": vars(cls)[name].__set__ for name in names}
    exec("\n".join(lines), {**setters, "_defaults": defaults}, scope)
    made = scope["__init__"]
    made.__qualname__, made.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    made.__annotations__ = {**cls.__annotations__, "return": "None"}
    return made


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Return a class like @dataclass(frozen=True, slots=True): its annotated fields."""
    names = tuple(cls.__annotations__)
    body = {
        name: value
        for name, value in vars(cls).items()
        if name not in ("__dict__", "__weakref__")
    }
    defaults = {name: body.pop(name) for name in names if name in body}
    body.update(
        __slots__=names,
        __match_args__=names,
        __dataclass_fields__=_Fields(),
        _defaults=defaults,
    )
    for name, function in _METHODS.items():
        body.setdefault(name, function)
    new: type[T] = type(cls.__name__, cls.__bases__, body)
    init = _init(new, names, defaults, "__post_init__" in body)
    type.__setattr__(new, "__init__", init)
    return new


def _names(kind: type) -> tuple[str, ...]:
    names: tuple[str, ...] = vars(kind)["__match_args__"]
    return names


def values(self: object) -> tuple[object, ...]:
    """Return the values of a record's fields."""
    return tuple(getattr(self, name) for name in _names(type(self)))


def replaced(self: T, **changes: object) -> T:
    """Return a record with other values of some fields."""
    names = _names(type(self))
    return type(self)(**{**dict(zip(names, values(self), strict=True)), **changes})


def as_dict(self: object) -> dict[str, object]:
    """Return the fields of a record, and of those in it, as dicts."""
    return {name: _plain(getattr(self, name)) for name in _names(type(self))}


def _plain(value: object) -> object:
    if hasattr(type(value), "_defaults"):
        return as_dict(value)
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value))
    return value


def _repr(self: object) -> str:
    pairs = zip(_names(type(self)), values(self), strict=True)
    inner = ", ".join(f"{name}={value!r}" for name, value in pairs)
    return f"{type(self).__qualname__}({inner})"


def _eq(self: object, other: object) -> object:
    if type(other) is not type(self):
        return NotImplemented
    return values(self) == values(other)


def _hash(self: object) -> int:
    return hash(values(self))


def _refuse(_self: object, name: str, *_: object) -> NoReturn:
    from dataclasses import FrozenInstanceError  # noqa: PLC0415 - slow to import

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _reduce(self: object) -> tuple[type, tuple[object, ...]]:
    return type(self), values(self)


_METHODS = {
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _refuse,
    "__delattr__": _refuse,
    "__reduce__": _reduce,
    "__replace__": replaced,
}
