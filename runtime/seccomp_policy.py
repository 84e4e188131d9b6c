"""Which system calls a sandboxed process may make: the facts of docker's default policy, as rules.

Source of the facts: moby/profiles, seccomp/default.json (the version BuildKit of August 2026 carries). Everything not named
fails with EPERM. A rule can depend on an architecture or on a capability in the bounding set, as the reference has it.
"""

from __future__ import annotations

from runtime.values import dataclass

_EVERYBODY = """
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
    execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir
    fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork
    fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid
    getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy
    io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat
    listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2
    mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
    munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv
    preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
    removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max
    sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget
    semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt
    set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
    sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs
    statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64
    ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice
    wait4 waitid waitpid write writev
"""

# clone(2) flags that make namespaces: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NAMESPACE_FLAGS = 0x7E02_0000

_ENOSYS = 38


@dataclass(frozen=True, slots=True)
class Argument:
    """A condition on one argument. ``operator`` is "LT", "EQ", "GT", or "MASKED_EQ": (argument & value) == two."""

    index: int
    operator: str
    value: int
    two: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """The calls ``names`` are allowed (``errno`` 0) or fail with ``errno``, if ``argument`` (if any) holds."""

    names: tuple[str, ...]
    argument: Argument | None = None
    errno: int = 0


_BY_ARCHITECTURE = {
    "aarch64": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    "x86_64": "arch_prctl modify_ldt",
    "riscv64": "riscv_flush_icache",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    "ppc64le": "sync_file_range2 swapcontext",
}

_BY_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
        lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
        sethostname setns syslog umount umount2 unshare""",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

# Since Linux 4.8 ptrace can't be used to get around seccomp; older kernels are not supported here.
_PTRACE = "process_vm_readv process_vm_writev ptrace"

# execution domains that programs need: default, UNAME26, PER_LINUX32 with and without, and "tell me" (0xffffffff).
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# Address families 38 (AF_ALG) and 40 (AF_VSOCK) stay closed.
_SOCKETS = (Argument(0, "LT", 38), Argument(0, "EQ", 39), Argument(0, "GT", 40))


def rules(architecture: str, capabilities: frozenset[str]) -> tuple[Rule, ...]:
    """The policy for a process with these capabilities in its bounding set. ``architecture`` is that of ``os.uname()``."""
    found = [Rule(tuple(_EVERYBODY.split())), Rule(tuple(_PTRACE.split()))]
    found += [Rule(("socket",), condition) for condition in _SOCKETS]
    found += [Rule(("personality",), Argument(0, "EQ", value)) for value in _PERSONALITIES]
    if architecture in _BY_ARCHITECTURE:
        found.append(Rule(tuple(_BY_ARCHITECTURE[architecture].split())))
    for capability, names in _BY_CAPABILITY.items():
        if capability in capabilities:
            found.append(Rule(tuple(names.split())))
    if "CAP_SYS_ADMIN" not in capabilities:
        index = 1 if architecture == "s390x" else 0
        found.append(Rule(("clone",), Argument(index, "MASKED_EQ", _NAMESPACE_FLAGS, 0)))
        # clone3 takes its flags in memory where a filter can't look: ENOSYS makes libc use clone.
        found.append(Rule(("clone3",), errno=_ENOSYS))
    return tuple(found)


_SUB_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "ppc64le": (),
}


def as_oci(architecture: str, capabilities: frozenset[str]) -> dict[str, object]:
    """The ``linux.seccomp`` object of the OCI runtime specification."""
    calls: list[dict[str, object]] = []
    for rule in rules(architecture, capabilities):
        call: dict[str, object] = {
            "names": list(rule.names),
            "action": "SCMP_ACT_ERRNO" if rule.errno else "SCMP_ACT_ALLOW",
        }
        if rule.errno:
            call["errnoRet"] = rule.errno
        if rule.argument is not None:
            call["args"] = [_oci_argument(rule.argument)]
        calls.append(call)
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": list(_SUB_ARCHITECTURES.get(architecture, ())),
        "syscalls": calls,
    }


def _oci_argument(argument: Argument) -> dict[str, object]:
    fields: dict[str, object] = {
        "index": argument.index,
        "value": argument.value,
        "op": f"SCMP_CMP_{argument.operator}",
    }
    if argument.operator == "MASKED_EQ":
        fields["valueTwo"] = argument.two
    return fields
