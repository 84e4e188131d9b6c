"""The compiled policy decides as the rules say: run in a small interpreter of classic BPF."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import syscall_numbers
from runtime.capabilities import DEFAULT
from runtime.errors import RuntimeFault
from runtime.seccomp import compile_policy
from runtime.seccomp_policy import as_oci, rules

ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
NATIVE = {"x86_64": "x86_64", "i386": "x86_64", "aarch64": "aarch64", "arm": "aarch64"}
DEFAULT_SET = frozenset(DEFAULT)


def decide(mode: str, number: int, *arguments: int, capabilities: frozenset[str] = DEFAULT_SET, audit: int | None = None) -> int:
    program = list(struct.iter_unpack("<HBBI", compile_policy(NATIVE[mode], capabilities)))
    values = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<iIQ6Q", number - (1 << 32) if number >> 31 else number, audit or AUDIT[mode], 0, *values)
    accumulator = position = 0
    while True:
        code, yes, no, k = program[position]
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code == 0x54:
            accumulator &= k
        elif code == 0x05:
            position += k
        elif code == 0x06:
            return int(k)
        else:
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[code]
            position += yes if holds else no


def call(name: str, *arguments: int, mode: str = "x86_64", capabilities: frozenset[str] = DEFAULT_SET) -> int:
    return decide(mode, syscall_numbers.numbers(mode)[name], *arguments, capabilities=capabilities)


@pytest.mark.parametrize("mode", AUDIT)
def test_every_number_is_decided_as_the_rules_say(mode: str) -> None:
    table = syscall_numbers.numbers(mode)
    policy = rules(NATIVE[mode], DEFAULT_SET)
    allowed = {name for rule in policy if rule.argument is None and not rule.errno for name in rule.names}
    conditional = {name for rule in policy if rule.argument is not None for name in rule.names} | {"clone3"}
    names = {number: name for name, number in table.items()}
    top = syscall_numbers.newest(mode)
    for number in range(top + 50):
        name = names.get(number, "")
        if name in conditional:
            continue
        expected = ALLOW if name in allowed else EPERM if number <= top else ENOSYS
        # Two names of one number (arm): either may allow it.
        if any(table.get(other) == number for other in allowed):
            expected = ALLOW
        assert decide(mode, number) == expected, (number, name)


def test_namespaces_can_not_be_made_by_clone_and_clone3_is_unknown() -> None:
    assert call("clone", 0x11) == ALLOW
    assert call("clone", 0x10000000) == EPERM
    assert call("clone", 0x00020000 | 0x11) == EPERM
    assert call("clone3") == ENOSYS
    assert call("clone", 0x10000000, capabilities=DEFAULT_SET | {"CAP_SYS_ADMIN"}) == ALLOW


def test_some_address_families_are_closed() -> None:
    families = {family: call("socket", family) for family in (1, 2, 10, 16, 37, 38, 39, 40, 41, 1 << 33)}
    assert [family for family, value in families.items() if value == EPERM] == [38, 40]


def test_personality_takes_the_known_domains_only() -> None:
    assert [value for value in (0, 1, 8, 0x20000, 0x20008, 0xFFFFFFFF, 0x40000) if call("personality", value) == ALLOW] == [
        0, 8, 0x20000, 0x20008, 0xFFFFFFFF,
    ]  # fmt: skip
    assert call("personality", 1 << 32) == EPERM


@pytest.mark.parametrize("name", ["mount", "unshare", "setns", "keyctl", "bpf", "reboot", "init_module", "userfaultfd", "umount2"])
def test_dangerous_calls_are_refused(name: str) -> None:
    numbers = syscall_numbers.numbers("x86_64") | {"keyctl": 250, "userfaultfd": 323}
    assert decide("x86_64", numbers[name]) == EPERM


def test_a_capability_opens_its_calls() -> None:
    assert call("chroot") == ALLOW
    assert call("chroot", capabilities=frozenset()) == EPERM
    assert call("mount", capabilities=frozenset({"CAP_SYS_ADMIN"})) == ALLOW


@pytest.mark.parametrize("mode", AUDIT)
def test_what_came_after_the_newest_call_of_the_policy_is_unknown_as_runc_has_it(mode: str) -> None:
    """open_tree_attr is no call of the policy of 2026: programs must fall back to what they did before there was one."""
    assert decide(mode, 466) == ALLOW  # removexattrat
    assert decide(mode, 467) == ENOSYS


def test_calls_newer_than_the_tables_and_x32_are_unknown_and_foreign_modes_are_killed() -> None:
    assert decide("x86_64", 5000) == ENOSYS
    assert decide("x86_64", 0x40000001) == ENOSYS
    assert decide("x86_64", 0xFFFFFFFF) == ENOSYS
    assert decide("x86_64", 0, audit=AUDIT["aarch64"]) == KILL


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, (1 << 64) - 1))
def test_every_input_comes_to_a_decision(number: int, argument: int) -> None:
    assert decide("x86_64", number, argument) in (ALLOW, EPERM, ENOSYS)


def test_an_architecture_without_tables_is_named() -> None:
    with pytest.raises(RuntimeFault, match="no seccomp tables for sparc64"):
        compile_policy("sparc64", DEFAULT_SET)


def test_the_oci_form_denies_by_default_and_names_the_32_bit_modes() -> None:
    policy = as_oci("x86_64", DEFAULT_SET)
    assert policy["defaultAction"] == "SCMP_ACT_ERRNO"
    assert policy["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38} in policy["syscalls"]  # type: ignore[operator]
