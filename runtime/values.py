"""The subset of ``dataclasses`` that pybuild uses, made at a tenth of the cost.

A cached build takes its time in starting up, and most of that was the standard library's ``dataclass``: it compiles six methods
of each class from text (0.5 ms a class, about 170 classes), and imports ``inspect``. Here one is compiled, ``__init__``; the others
are shared functions over the names of the fields. To the type checker these are the standard ones.

Supported: ``frozen``, ``slots``, ``eq``, ``kw_only``, defaults, ``field(default, default_factory, metadata, compare, repr)``,
``__post_init__``, ``ClassVar``, inheritance. Annotations are text (``from __future__ import annotations``).
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import asdict as asdict
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import fields as fields
    from dataclasses import replace as replace
    from typing import TypeGuard

    from _typeshed import DataclassInstance

else:
    _MISSING = object()

    class Field:
        """One field; ``default`` and ``default_factory`` are ``_MISSING`` where they are not given."""

        __slots__ = ("compare", "default", "default_factory", "kw_only", "metadata", "name", "repr")

        def __init__(self, default, default_factory, metadata, compare, repr):
            self.name = ""
            self.default = default
            self.default_factory = default_factory
            self.metadata = metadata
            self.compare = compare
            self.repr = repr
            self.kw_only = False

    def field(*, default=_MISSING, default_factory=_MISSING, metadata=None, compare=True, repr=True):
        return Field(default, default_factory, metadata or {}, compare, repr)

    def fields(value):
        """The fields of a class made here, or of an instance of one; TypeError for anything else."""
        try:
            return tuple(value.__value_fields__.values())
        except AttributeError:
            raise TypeError(f"{value!r} is no value class") from None

    def replace(value, /, **changes):
        """A copy with other fields."""
        for name in value.__value_fields__:
            if name not in changes:
                changes[name] = getattr(value, name)
        return value.__class__(**changes)

    def asdict(value):
        """Fields as a dict, values below it too."""
        return {name: _plain(getattr(value, name)) for name in value.__value_fields__}

    def _plain(value):
        if hasattr(type(value), "__value_fields__"):
            return asdict(value)
        if isinstance(value, (list, tuple)):
            return type(value)(_plain(v) for v in value)
        if isinstance(value, dict):
            return {_plain(k): _plain(v) for k, v in value.items()}
        return value

    def dataclass(cls=None, /, *, frozen=False, slots=False, eq=True, kw_only=False):
        """See ``dataclasses.dataclass``."""

        def make(cls):
            own = {}
            for name, annotation in cls.__dict__.get("__annotations__", {}).items():  # noqa: RUF063 - inspect costs more than this module
                if not annotation.startswith(("ClassVar", "typing.ClassVar")):
                    own[name] = _field(cls, name, kw_only)
            every = {}
            for base in reversed(cls.__mro__[1:]):
                every.update(getattr(base, "__value_fields__", {}))
            every.update(own)
            cls.__value_fields__ = every
            cls.__match_args__ = tuple(name for name, f in every.items() if not f.kw_only)
            if "__init__" not in cls.__dict__:
                cls.__init__ = _init(cls, every, frozen)
            if "__repr__" not in cls.__dict__:
                cls.__repr__ = _repr
            if eq:
                _add_eq(cls, [name for name, f in every.items() if f.compare], frozen)
            if frozen:
                cls.__setattr__, cls.__delattr__ = _frozen_setattr, _frozen_delattr
            return _with_slots(cls, own, frozen) if slots else cls

        return make if cls is None else make(cls)

    def _field(cls, name, kw_only):
        default = cls.__dict__.get(name, _MISSING)
        if not isinstance(default, Field):
            default = Field(default, _MISSING, {}, True, True)
        if default.default is _MISSING:
            if name in cls.__dict__:
                delattr(cls, name)
        else:
            setattr(cls, name, default.default)
        default.name, default.kw_only = name, kw_only
        return default

    def _init(cls, every, frozen):
        """The one compiled method: arguments with their defaults, assigned in order."""
        scope = {"_set": object.__setattr__, "_missing": _MISSING}
        positional, keyword, body = [], [], []
        for name, f in every.items():
            parameter = name
            value = name
            if f.default is not _MISSING:
                scope[f"_d_{name}"] = f.default
                parameter = f"{name}=_d_{name}"
            elif f.default_factory is not _MISSING:
                scope[f"_f_{name}"] = f.default_factory
                parameter = f"{name}=_missing"
                value = f"_f_{name}() if {name} is _missing else {name}"
            (keyword if f.kw_only else positional).append(parameter)
            body.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
        if hasattr(cls, "__post_init__"):
            body.append("self.__post_init__()")
        signature = ", ".join(["self", *positional, *(["*", *keyword] if keyword else [])])
        exec(f"def __init__({signature}):\n " + "\n ".join(body or ["pass"]), scope)
        init = scope["__init__"]
        init.__qualname__ = f"{cls.__qualname__}.__init__"
        return init

    def _add_eq(cls, names, frozen):
        key = _key(names)

        def __eq__(self, other):
            return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

        if "__eq__" not in cls.__dict__:
            cls.__eq__ = __eq__
        if "__hash__" in cls.__dict__ and cls.__dict__["__hash__"] is not None:
            return
        cls.__hash__ = (lambda self: hash(key(self))) if frozen else None

    def _key(names) -> Callable[[object], object]:
        if len(names) > 1:
            return attrgetter(*names)
        if not names:
            return lambda self: ()
        get = attrgetter(names[0])
        return lambda self: (get(self),)

    def _repr(self):
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name, f in self.__value_fields__.items() if f.repr)
        return f"{self.__class__.__qualname__}({inner})"

    def _frozen_setattr(self, name, value):
        raise AttributeError(f"cannot assign to field {name!r}")

    def _frozen_delattr(self, name):
        raise AttributeError(f"cannot delete field {name!r}")

    def _with_slots(cls, own, frozen):
        """The class again, with ``__slots__``: they can't be added to one that exists."""
        namespace = {k: v for k, v in cls.__dict__.items() if k not in own and k not in ("__dict__", "__weakref__")}
        inherited = {name for base in cls.__mro__[1:] for name in getattr(base, "__slots__", ())}
        namespace["__slots__"] = tuple(name for name in own if name not in inherited)
        if frozen:  # for copy and pickle, which would call __setattr__
            namespace["__getstate__"], namespace["__setstate__"] = _getstate, _setstate
        made = type(cls)(cls.__name__, cls.__bases__, namespace)
        made.__qualname__ = cls.__qualname__
        return made

    def _getstate(self):
        return [getattr(self, name) for name in self.__value_fields__]

    def _setstate(self, state):
        for name, value in zip(self.__value_fields__, state, strict=True):
            object.__setattr__(self, name, value)


def is_value(value: object) -> TypeGuard[DataclassInstance]:
    """Is it an instance of a class made by ``dataclass``?"""
    return hasattr(type(value), "__value_fields__")
