"""An ELF file for amd64 that asks the kernel every system call by its number, and writes what each child's end was.

Each call is made by a child of its own with all six arguments -1, so that what is allowed fails on its arguments (EFAULT, EBADF,
EINVAL) and does nothing. ``outcomes`` reads what it wrote.
"""

from __future__ import annotations

import struct

from runtime import trampoline

COUNT = 480
# pause would wait for ever; the child of vfork would run on its parent's stack.
LEFT_OUT = (34, 58)


def program() -> bytes:
    """The file."""
    minus_one = b"".join(b + b"\xff\xff\xff\xff" for b in (
        b"\x48\xc7\xc7", b"\x48\xc7\xc6", b"\x48\xc7\xc2", b"\x49\xc7\xc2", b"\x49\xc7\xc0", b"\x49\xc7\xc1",
    ))  # fmt: skip
    child = minus_one + b"\x89\xd8\x0f\x05"  # eax = ebx; syscall
    child += b"\x31\xff\x48\x85\xc0\x79\x04\x89\xc7\xf7\xdf"  # edi = 0; if rax < 0: edi = -eax
    child += b"\xb8\xe7\x00\x00\x00\x0f\x05"  # exit_group(edi)
    parent = b"\x89\xc7\x48\x89\xe6\x31\xd2\x4d\x31\xd2\xb8\x3d\x00\x00\x00\x0f\x05"  # wait4(eax, rsp, 0, 0)
    parent += b"\xbf\x01\x00\x00\x00\x48\x89\xe6\xba\x04\x00\x00\x00\xb8\x01\x00\x00\x00\x0f\x05"  # write(1, rsp, 4)
    body = b"\xb8\x39\x00\x00\x00\x0f\x05\x85\xc0"  # fork; test eax
    body += b"\x0f\x85" + struct.pack("<i", len(child)) + child + parent
    left_out = b""
    for at, number in enumerate(LEFT_OUT):
        rest = (len(LEFT_OUT) - at - 1) * 12
        left_out += b"\x81\xfb" + struct.pack("<i", number) + b"\x0f\x84" + struct.pack("<i", rest + len(body))
    loop = left_out + body + b"\xff\xc3\x81\xfb" + struct.pack("<i", COUNT)  # ebx += 1; cmp ebx, COUNT
    loop += b"\x0f\x8c" + struct.pack("<i", -(len(loop) + 6))
    code = b"\x48\x83\xec\x40\x31\xdb" + loop + b"\x31\xff\xb8\xe7\x00\x00\x00\x0f\x05"
    return trampoline.header("x86_64", len(code)) + code


def outcomes(written: bytes) -> dict[int, int]:
    """Wait status by the number of the call: the errno in the second byte, 0 for success, or a signal in the first."""
    numbers = [number for number in range(COUNT) if number not in LEFT_OUT]
    return dict(zip(numbers, struct.unpack(f"<{len(numbers)}i", written), strict=True))
