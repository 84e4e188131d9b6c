"""A compiler from the seccomp policy to classic BPF, for amd64 and arm64 with their 32-bit modes.

runc and crun let libseccomp do this (about 14 ms a run); bubblewrap wants the finished program, which here is compiled
once a process. Calls are found by a binary search over ranges of numbers. Behaviour is libseccomp's as runc uses it: EPERM by
default, ENOSYS for numbers newer than any that the policy names, and the process is killed for calls of a foreign architecture. One
difference: the x32 mode of amd64 (gone from kernels of today's distributions) gives ENOSYS throughout.
"""

from __future__ import annotations

import functools
import struct

from runtime import syscall_numbers
from runtime.errors import RuntimeFault
from runtime.seccomp_policy import Argument, Rule, rules
from runtime.values import dataclass

# linux/audit.h. The native mode first.
_ARCHITECTURES = {
    "x86_64": (("x86_64", 0xC000003E), ("i386", 0x40000003)),
    "aarch64": (("aarch64", 0xC00000B7), ("arm", 0x40000028)),
}

_ALLOW = 0x7FFF_0000
_KILL_PROCESS = 0x8000_0000
_ERRNO = 0x0005_0000
_EPERM = _ERRNO | 1
_ENOSYS = _ERRNO | 38

# linux/bpf_common.h: class | size or operation | source.
_LOAD, _AND, _JUMP, _EQ, _GT, _GE, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06

# struct seccomp_data, little-endian: nr, arch, instruction pointer, six arguments of 64 bits.
_NR, _ARCH, _ARGS = 0, 4, 16

_X32 = 0x4000_0000


@dataclass(frozen=True, slots=True)
class Instruction:
    """struct sock_filter; ``yes``/``no`` count the instructions to skip."""

    code: int
    k: int = 0
    yes: int = 0
    no: int = 0


@dataclass(frozen=True, slots=True)
class _Decision:
    """What happens to a call: ``value`` at once, or with ``any_of``: allowed if one of the conditions holds, else ``value``."""

    value: int
    any_of: tuple[Argument, ...] = ()


def supports(architecture: str) -> bool:
    """Are there tables for it?"""
    return architecture in _ARCHITECTURES


@functools.cache
def compile_policy(architecture: str, capabilities: frozenset[str]) -> bytes:
    """The policy as an array of struct sock_filter. RuntimeFault for an architecture without tables."""
    program = instructions(architecture, capabilities)
    return b"".join(struct.pack("<HBBI", one.code, one.yes, one.no, one.k) for one in program)


def instructions(architecture: str, capabilities: frozenset[str]) -> list[Instruction]:
    """The program of ``compile_policy``, readable by tests."""
    if architecture not in _ARCHITECTURES:
        raise RuntimeFault(f"no seccomp tables for {architecture}", hint="use --runtime runc or crun")
    policy = rules(architecture, capabilities)
    program = [Instruction(_LOAD, _ARCH)]
    for name, audit in _ARCHITECTURES[architecture]:
        body = [Instruction(_LOAD, _NR), *_search(_segments(name, policy))]
        # Jumps of conditions reach 255 instructions, the unconditional one any distance.
        program += [Instruction(_EQ, audit, 1, 0), Instruction(_JUMP, len(body)), *body]
    program.append(Instruction(_RETURN, _KILL_PROCESS))
    if len(program) > 4096:
        raise RuntimeFault("the seccomp program is too long for the kernel")
    return program


def _segments(name: str, policy: tuple[Rule, ...]) -> list[tuple[int, _Decision]]:
    """(first number, decision) in order: each holds up to the next."""
    table = syscall_numbers.numbers(name)
    decisions: dict[int, _Decision] = {}
    for rule in policy:
        value = _ERRNO | rule.errno if rule.errno else _ALLOW
        for call in rule.names:
            number = table.get(call)
            if number is None:
                continue
            known = decisions.get(number)
            if rule.argument is None:
                if known is None or known.any_of or known.value != _ALLOW:
                    decisions[number] = _Decision(value)
            elif known is None or known.any_of:
                decisions[number] = _Decision(_EPERM, (*(known.any_of if known else ()), rule.argument))
    top = syscall_numbers.newest(name)
    marks = {0: _Decision(_EPERM), top + 1: _Decision(_ENOSYS)}
    for number in decisions:
        if number + 1 not in decisions:
            marks[number + 1] = _Decision(_EPERM if number < top else _ENOSYS)
    if name == "x86_64":
        marks[_X32] = _Decision(_ENOSYS)
    segments: list[tuple[int, _Decision]] = []
    for start, decision in sorted({**marks, **decisions}.items()):
        if not segments or segments[-1][1] != decision:
            segments.append((start, decision))
    return segments


def _search(segments: list[tuple[int, _Decision]]) -> list[Instruction]:
    if len(segments) == 1:
        return _decide(segments[0][1])
    middle = len(segments) // 2
    below, above = _search(segments[:middle]), _search(segments[middle:])
    start = segments[middle][0]
    if len(below) <= 255:
        return [Instruction(_GE, start, len(below), 0), *below, *above]
    return [Instruction(_GE, start, 0, 1), Instruction(_JUMP, len(below)), *below, *above]


def _decide(decision: _Decision) -> list[Instruction]:
    found: list[Instruction] = []
    for argument in decision.any_of:
        found += _condition(argument)
    return [*found, Instruction(_RETURN, decision.value)]


def _condition(argument: Argument) -> list[Instruction]:
    """Returns "allow" if the condition holds, else falls through. Arguments are compared as unsigned 64-bit numbers."""
    low = _ARGS + 8 * argument.index
    high = low + 4
    value, top = argument.value & 0xFFFF_FFFF, argument.value >> 32
    allow = Instruction(_RETURN, _ALLOW)
    if argument.operator == "MASKED_EQ":
        # The masks in use have no high bits, so the high half can't matter.
        return [Instruction(_LOAD, low), Instruction(_AND, value), Instruction(_EQ, argument.two, 0, 1), allow]
    # (test of the high half, test of the low half): each falls through to the next instruction or skips past "allow".
    tests: dict[str, tuple[Instruction, Instruction]] = {
        "EQ": (Instruction(_EQ, top, 0, 3), Instruction(_EQ, value, 0, 1)),
        "LT": (Instruction(_EQ, 0, 0, 3), Instruction(_GE, value, 1, 0)),
        "GT": (Instruction(_GT, 0, 2, 0), Instruction(_GT, value, 0, 1)),
    }
    if argument.operator in tests and (top == 0 or argument.operator == "EQ"):
        test_high, test_low = tests[argument.operator]
        return [Instruction(_LOAD, high), test_high, Instruction(_LOAD, low), test_low, allow]
    raise RuntimeFault(f"seccomp condition {argument} is not supported")
