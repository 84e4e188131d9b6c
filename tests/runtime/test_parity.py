"""What a step can see of its sandbox, under each executor beside runc, which is what BuildKit runs.

Every difference has a reason here. A new one fails the test, whichever side it comes from.
"""

from __future__ import annotations

import os
import re

import pytest

from runtime import executor
from tests.runtime.conftest import Runner, make_rootfs
from tests.support import syscall_probe

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.xdist_group("parity"),  # what is asked of runc once serves all of them
]

PROBE = r"""
grep -E '^(Uid|Gid|Groups|Cap|NoNew|Seccomp:|Umask)' /proc/self/status
while read -r a b c d e rest; do echo "mount $e $rest"; done < /proc/self/mountinfo
for f in / /dev /dev/pts /dev/shm /dev/mqueue /sys /sys/fs/cgroup; do
    ls -lan $f | grep -v " [.][.]$" | sed "s|^|in $f |"
done; ls -ldn /proc
for p in acpi asound kcore keys latency_stats timer_list scsi bus fs irq sys sysrq-trigger; do ls -dln /proc/$p 2>&1; done
for p in firmware devices/virtual/powercap fs/bpf; do ls -dln /sys/$p 2>&1; done
id; umask; hostname; pwd; tty; ls -l /proc/self/fd /proc/1/fd; read -r line </proc/self/stat; echo $line | cut -d' ' -f4-8
cat /proc/self/cgroup /proc/self/oom_score_adj /proc/self/setgroups /proc/self/uid_map /proc/self/limits /etc/hosts /etc/resolv.conf
ls -l /etc /proc/self/ns | sed 's/ -> \(.*\):\[.*/ -> \1/'; cat /proc/1/cmdline | tr '\0' ' '
for f in /proc/sys/kernel/printk /proc/sysrq-trigger /sys/kernel/uevent_seqnum /etc/hosts; do (: >$f) 2>&1; done
for d in null zero full random urandom tty ptmx; do (: </dev/$d) 2>&1 && echo "opened $d"; done
mknod /tmp/disk b 254 0 && (: </tmp/disk) 2>&1; mknod /tmp/null c 1 3 && echo made >/tmp/null; rm -f /tmp/disk /tmp/null
"""
_TIME = re.compile(r"[A-Z][a-z][a-z] [ \d]\d [ \d]\d:?\d\d:?\d?\d?")
_NORMAL = (
    (re.compile(r"(pipe|socket):\[\d+\]"), r"\1"),
    (re.compile(r"/pybuild/\d+-\d+/run"), "/GROUP"),
    (re.compile(r"^(in \S+ )?([-a-z]{10}) +\d+ "), r"\1\2 "),  # the number of links
    (re.compile(r"(master|shared|propagate_from):\d+ "), ""),
    (re.compile(r"/proc/\d+/"), "/proc/N/"),
    (re.compile(r" +"), " "),
)
_ROOTFS = re.compile(r"^in / |ext4|overlay|mount / ")  # it is not the same one


# Lines of one side only that are as they should be.
GROUPS = r"^\d+:[a-z_,=]*:|^mount /sys/fs/cgroup|^in /sys/fs/cgroup "
EXPECTED: dict[str, tuple[tuple[str, str], ...]] = {
    "native": (
        (GROUPS, "it joins the groups that it needs: those of devices and memory"),
        (r" 0 -> (pipe|/dev/null)", "runc hands standard input on through a pipe"),
    ),
    "crun": (
        (GROUPS, "it makes them in another order, with links for hierarchies of two controllers"),
        (r"^mount /(proc|sys)/", "it masks with other flags and sizes, and from the host's /dev/null"),
        (r"in /dev (l.* core -> /proc/kcore|d)", "it always makes the link"),
        (r"in /dev crw-rw-rw- .* null$", "it gives the user the null device that it has as standard input"),
        (r"^crw-rw-rw- 0 0 1, 3 /proc/", "masks are the host's /dev/null"),
        (r" 0 -> (pipe|/dev/null)", "runc hands standard input on through a pipe"),
    ),
    "bwrap": (
        (GROUPS, "it makes none, and shows the host's"),
        (r"^mount ", "it has no devices cgroup: nodev everywhere, and the host's device nodes bound"),
        (r"^NoNewPrivs:", "it can't be without"),
        (r"in /dev ", "the host's device nodes, and a link to /proc/kcore"),
        (r"^(in /sys )?(crw-rw-rw-|d[-rwxt]+) 0 0 .* (/(proc|sys)/.*|firmware)$", "masks are folders of its own making"),
        (r" 0 -> (pipe|/dev/null)", "runc hands standard input on through a pipe"),
        (r"/tmp/(disk|null)", "nodev in the place of a devices cgroup"),
        (r"^opened ", "a terminal device needs a session"),
    ),
}
SYSTEM_CALLS = {
    # Newer than the libseccomp that runc is built with, known to the kernel and to docker's policy.
    "native": frozenset(range(457, 480)),
    "crun": frozenset(range(457, 480)),
    # With no_new_privs the kernel allows landlock_restrict_self.
    "bwrap": frozenset({446, *range(457, 480)}),
}


def seen(name: str, user: str, folder: str) -> list[str]:
    rootfs = make_rootfs(folder)
    for tool in ("cut", "tr", "tty", "sed"):
        os.symlink("busybox", f"{rootfs}/bin/{tool}")
    result = Runner(name, rootfs)(PROBE, user=user, hostname="parity")
    return normal_lines(result.out + result.err)


def normal_lines(text: str) -> list[str]:
    """What the probe said, without what is another each time."""
    lines = []
    for line in text.splitlines():
        line = _TIME.sub("TIME", line)
        for pattern, replacement in _NORMAL:
            line = pattern.sub(replacement, line)
        if not _ROOTFS.search(line):
            lines.append(line)
    return lines


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return {user: seen("runc", user, f"{tmp_path_factory.mktemp('runc')}/root") for user in ("", "app")}


@pytest.mark.parametrize("user", ["", "app"])
@pytest.mark.parametrize("name", EXPECTED)
def test_a_step_sees_what_it_would_see_under_runc(name: str, user: str, reference: dict[str, list[str]], tmp_path) -> None:
    theirs, ours = reference[user], seen(name, user, f"{tmp_path}/root")
    assert len(theirs) > 100
    different = [("-", line) for line in theirs if line not in ours] + [("+", line) for line in ours if line not in theirs]
    reasons = [re.compile(pattern) for pattern, _ in EXPECTED[name]]
    assert [both for both in different if not any(pattern.search(both[1]) for pattern in reasons)] == []


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is of amd64")
@pytest.mark.parametrize("user", ["", "app"])
@pytest.mark.parametrize("name", SYSTEM_CALLS)
def test_every_system_call_has_the_answer_that_it_has_under_runc(name: str, user: str, tmp_path) -> None:
    answers = []
    for one in ("runc", name):
        rootfs = make_rootfs(f"{tmp_path}/{one}")
        with open(f"{rootfs}/probe", "wb") as file:
            file.write(syscall_probe.program())
        os.chmod(f"{rootfs}/probe", 0o755)
        result = Runner(one, rootfs)
        written = bytearray()
        result.run(("/probe",), user=user, listen=lambda stream, data: written.extend(data) if stream == 1 else None)  # noqa: B023
        answers.append(syscall_probe.outcomes(bytes(written)))
    theirs, ours = answers
    assert sum(status == 0x100 for status in theirs.values()) > 50, "the policy refuses with EPERM"
    assert {number: (theirs[number] >> 8, ours[number] >> 8) for number in theirs if theirs[number] != ours[number]}.keys() <= (
        SYSTEM_CALLS[name]
    )


def test_every_executor_is_compared() -> None:
    assert {"runc", *EXPECTED} == set(executor.NAMES) == {"runc", *SYSTEM_CALLS}
