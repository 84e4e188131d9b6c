"""Value classes behave as the standard dataclasses do, wherever pybuild uses them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, ClassVar

import pytest

from builder import values


def both(make: Any) -> list[Any]:
    return [make(dataclasses.dataclass, dataclasses.field), make(values.dataclass, values.field)]


def point(dataclass: Any, field: Any) -> Any:
    @dataclass(frozen=True, slots=True)
    class Point:
        kind: ClassVar[str] = "point"
        x: int
        y: int = 0
        tags: tuple[str, ...] = field(default=())
        more: list[int] = field(default_factory=list, compare=False)

        def double(self) -> int:
            return self.x * 2

    return Point


def mutable(dataclass: Any, field: Any) -> Any:
    @dataclass(slots=True)
    class Counter:
        n: int = 0
        log: list[int] = field(default_factory=list)

    return Counter


def keyword(dataclass: Any, field: Any) -> Any:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Options:
        a: int
        b: str = "b"

    return Options


@pytest.mark.parametrize("cls", both(point))
def test_construction_defaults_equality_hash_and_repr(cls: Any) -> None:
    a, b = cls(1), cls(1, 0, (), [9])
    assert (a.x, a.y, a.tags, a.more) == (1, 0, (), [])
    assert a.more is not cls(1).more
    assert a == b
    assert hash(a) == hash(b)
    assert a != cls(2)
    assert a != (1, 0, ())
    assert repr(a).endswith("Point(x=1, y=0, tags=(), more=[])")
    assert a.double() == 2
    assert cls.kind == "point"
    assert not hasattr(a, "__dict__")


@pytest.mark.parametrize("cls", both(point))
def test_frozen_means_frozen(cls: Any) -> None:
    a = cls(1)
    with pytest.raises(AttributeError):
        a.x = 2
    with pytest.raises(AttributeError):
        del a.x


@pytest.mark.parametrize("cls", both(point))
def test_wrong_arguments_are_type_errors(cls: Any) -> None:
    for arguments in [(), (1, 2, 3, 4, 5)]:
        with pytest.raises(TypeError):
            cls(*arguments)
    with pytest.raises(TypeError):
        cls(1, z=1)


@pytest.mark.parametrize("cls", both(point))
def test_values_match_by_position(cls: Any) -> None:
    match cls(1, 2):
        case cls(x, y):
            assert (x, y) == (1, 2)


@pytest.mark.parametrize("cls", both(mutable))
def test_a_mutable_class_compares_and_has_no_hash(cls: Any) -> None:
    a = cls()
    a.n = 5
    assert a == cls(5)
    with pytest.raises(TypeError):
        hash(a)


@pytest.mark.parametrize("cls", both(keyword))
def test_keyword_only_fields(cls: Any) -> None:
    assert cls(a=1).b == "b"
    with pytest.raises(TypeError):
        cls(1)


def test_replace_fields_and_asdict() -> None:
    cls = point(values.dataclass, values.field)
    a = cls(1, 2)
    assert values.replace(a, y=3) == cls(1, 3)
    assert [f.name for f in values.fields(a)] == ["x", "y", "tags", "more"]
    assert values.asdict(cls(1, tags=(cls(2),))) == {
        "x": 1,
        "y": 0,
        "tags": ({"x": 2, "y": 0, "tags": (), "more": []},),
        "more": [],
    }
    assert values.is_value(a)
    assert not values.is_value(1)
    with pytest.raises(TypeError):
        values.fields(1)


@values.dataclass(frozen=True, slots=True)
class Base:
    a: int


@values.dataclass(frozen=True, slots=True)
class Derived(Base):
    b: int = 2
    done: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "done", True)


def test_inheritance_post_init_copy_and_pickle() -> None:
    d = Derived(1)
    assert (d.a, d.b, d.done) == (1, 2, True)
    assert copy.copy(d) == d
    assert pickle.loads(pickle.dumps(d)) == d
    assert d != Base(1)


def test_identity_equality_can_be_kept() -> None:
    @values.dataclass(eq=False, slots=True)
    class Node:
        n: int

    a = Node(1)
    assert a != Node(1)
    assert hash(a) == hash(a)


def test_a_field_can_be_kept_out_of_the_repr() -> None:
    @values.dataclass(frozen=True, slots=True)
    class Login:
        user: str
        password: str = values.field(default="", repr=False)

    assert "hunter2" not in repr(Login("me", "hunter2"))


def test_metadata_is_kept() -> None:
    @values.dataclass(frozen=True)
    class Marked:
        a: int = values.field(default=0, metadata={"digest": False})

    assert values.fields(Marked)[0].metadata == {"digest": False}
