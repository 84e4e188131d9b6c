"""One sandbox, four executors: what a command sees and may do is the same with each."""

from __future__ import annotations

import errno
import os
import struct
import threading

import pytest

from builder.state.cancel import Token
from runtime import executor, trampoline
from runtime.errors import RuntimeFault
from runtime.linux.namespaces import Entered
from runtime.native.executor import NativeExecutor
from runtime.spec import BindMount, Sandbox, TmpfsMount
from runtime.unprivileged.executor import UnprivilegedExecutor
from tests.runtime.conftest import Runner, make_rootfs

pytestmark = pytest.mark.integration

PROGRAMS = [name for name in executor.NAMES if name != "native"]


def calling_program(number: int, argument: int) -> bytes:
    """An ELF file that makes one system call with one argument, the others 0; the exit code is its errno."""
    code = b"\x48\xbf" + struct.pack("<Q", argument)  # mov rdi, argument
    code += b"\x31\xf6\x31\xd2\x45\x31\xd2\x45\x31\xc0"  # rsi, rdx, r10, r8 = 0
    code += b"\x48\xb8" + struct.pack("<Q", number) + b"\x0f\x05"  # mov rax, number; syscall
    code += b"\x31\xff\x48\x85\xc0\x79\x05\x48\x89\xc7\xf7\xdf"  # edi = 0; if rax < 0: edi = -rax
    code += b"\xb8\xe7\x00\x00\x00\x0f\x05"  # exit_group(edi)
    return trampoline.header("x86_64", len(code)) + code


def refuse(_: object) -> None:
    raise RuntimeFault("refused")


def status_fields(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


class TestProcess:
    @pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
    def test_the_exit_code_is_the_commands_own(self, run, code: int) -> None:
        assert run(f"exit {code}").status.code == code

    def test_a_killed_command_has_the_signal(self, run) -> None:
        # Not pid 1 itself, to which signals it sends itself do nothing.
        result = run("sh -c 'kill -9 $$'; exit $?")
        assert (result.code, result.status.signal) == (137, 9)

    def test_both_streams_arrive_whole_and_apart(self, run) -> None:
        result = run("yes 0123456789 | head -c 300000; echo problem >&2")
        assert (len(result.out), result.err) == (300000, "problem\n")

    def test_output_arrives_while_the_command_runs(self, run) -> None:
        """The command ends only because its first line was seen."""
        os.mkfifo(f"{run.rootfs}/tmp/go")

        def listen(stream: int, data: bytes) -> None:
            with open(f"{run.rootfs}/tmp/go", "w") as file:
                file.write("go\n")

        assert run.run(("/bin/sh", "-c", "echo first; cat /tmp/go >/dev/null; exit 4"), listen=listen).code == 4

    def test_the_environment_is_what_was_given_and_home(self, run) -> None:
        assert run.run(("env",), env=("B=2", "A=1 x\ny")).out == "PATH=/bin\nB=2\nA=1 x\ny\nHOME=/root\n"
        assert "HOME=/mine\n" in run.run(("env",), env=("HOME=/mine",)).out

    def test_stdin_is_empty_or_what_was_given(self, run) -> None:
        assert run("cat").out == ""
        assert run.run(("cat",), stdin=b"a heredoc\n").out == "a heredoc\n"

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (("nonsense",), 'exec: "nonsense": executable file not found in $PATH'),
            (("",), 'exec: "": executable file not found in $PATH'),
            (("plain",), 'exec: "plain": executable file not found in $PATH'),
            (("/x/y",), 'exec: "/x/y": stat /x/y: no such file or directory'),
            (("./y",), 'exec: "./y": stat ./y: no such file or directory'),
            (("/bin/sh/x",), 'exec: "/bin/sh/x": stat /bin/sh/x: not a directory'),
            (("/etc/passwd",), 'exec: "/etc/passwd": permission denied'),
            (("/bin/garbage",), "exec /bin/garbage: exec format error"),
            (("/bin/script",), "exec /bin/script: no such file or directory"),
            (("echo", "x" * 200_000), "exec /bin/echo: argument list too long"),
        ],
        ids=lambda value: value[0] if isinstance(value, tuple) else "",
    )
    def test_a_command_that_can_not_be_executed_is_the_steps_failure_in_one_line(self, run, args, said: str) -> None:
        for name, mode, text in (("garbage", 0o755, "x"), ("script", 0o755, "#!/no/such\n"), ("plain", 0o644, "")):
            with open(f"{run.rootfs}/bin/{name}", "w") as file:
                file.write(text)
            os.chmod(f"{run.rootfs}/bin/{name}", mode)
        result = run.run(args)
        assert (result.code, result.out, result.err) == (1, "", said + "\n")

    def test_a_command_may_say_what_a_runtime_would(self, run) -> None:
        """Then it is output, and its exit code its own."""
        said = '{"msg":"x","level":"error"}\nrunc run failed: unable to\nbwrap: no\n'
        for code in (1, 3):
            result = run.run(("/bin/sh", "-c", f"printf '{said}' >&2; exit {code}"))
            assert (result.code, result.err) == (code, said)
        result = run.run(("/bin/sh", "-c", "echo 'runc run failed: x' >&2; echo 'bwrap: x' >&2; echo out; exit 1"))
        assert (result.code, result.out, result.err) == (1, "out\n", "runc run failed: x\nbwrap: x\n")

    def test_a_program_of_roots_alone_can_be_the_command_of_a_user(self, run) -> None:
        """runc looks the command up and starts it with the sandbox's capabilities; the command itself has none."""
        os.chmod(f"{run.rootfs}/bin/busybox", 0o700)
        result = run.run(("grep", "CapEff", "/proc/self/status"), user="app")
        assert (result.code, result.out) == (0, "CapEff:\t0000000000000000\n")

    def test_arguments_are_not_changed(self, run) -> None:
        assert run.run(("echo", "a  b", "", "ü", "$X", "-n")).out == "a  b  ü $X -n\n"

    def test_usage_is_told(self, run) -> None:
        status = run("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").status
        assert status.cpu_seconds > 0
        assert status.max_rss > 100_000
        assert status.oom is False

    def test_a_background_process_ends_with_the_command(self, run) -> None:
        assert run("sleep 1000 & echo started").out == "started\n"


class TestUser:
    def test_a_name_has_its_groups_and_home(self, run) -> None:
        result = run("id; echo $HOME", user="app")
        assert result.out == "uid=1000(app) gid=1001(app) groups=1001(app),2000(extra)\n/home/app\n"

    def test_numbers_need_no_account(self, run) -> None:
        assert run("id -u; id -g; id -G; echo $HOME", user="4242:4243").out == "4242\n4243\n4243\n/\n"

    def test_an_unknown_user_is_a_fault(self, run) -> None:
        with pytest.raises(RuntimeFault, match=r"^unable to find user nobody: no matching entries in passwd file$"):
            run("true", user="nobody")

    @pytest.mark.parametrize("user", ["", "0:0", "app"])
    @pytest.mark.parametrize("name", ["passwd", "group"])
    def test_a_fifo_in_place_of_an_account_file_does_not_hang(self, run, name: str, user: str) -> None:
        """Neither us nor runc, which opens both by itself. The timer is for an implementation that does."""
        os.unlink(f"{run.rootfs}/etc/{name}")
        os.mkfifo(f"{run.rootfs}/etc/{name}")
        cancelled = Token()
        timer = threading.Timer(20, cancelled.set)
        timer.start()
        try:
            with pytest.raises(RuntimeFault, match=f"/etc/{name} of the root file system is not a regular file"):
                run.run(("true",), user=user, cancelled=cancelled)
        finally:
            timer.cancel()

    def test_files_belong_to_the_user(self, run) -> None:
        run("touch /tmp/mine", user="app")
        status = os.stat(f"{run.rootfs}/tmp/mine")
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1000, 1001, 0o644)

    def test_a_missing_working_folder_is_made_as_the_users(self, run) -> None:
        os.symlink("/tmp", f"{run.rootfs}/link")
        assert run("pwd", cwd="/link/a/b", user="app").out == "/tmp/a/b\n"
        status = os.stat(f"{run.rootfs}/tmp/a/b")
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1000, 1001, 0o755)

    def test_folders_that_the_way_to_the_working_folder_goes_through_are_made_too(self, run) -> None:
        """As by runc within the sandbox: root's, and the folder behind a link is left for the one it lies in."""
        os.symlink("/tmp/a", f"{run.rootfs}/link")
        os.mkdir(f"{run.rootfs}/tmp/a")
        assert run("pwd", cwd="/w/v/../../y", user="app").out == "/y\n"
        assert run("pwd", cwd="/../../y").out == "/y\n"
        assert run("pwd", cwd="/link/../b").out == "/tmp/b\n"
        for path, owner in (("w", 0), ("w/v", 0), ("y", 1000)):
            status = os.stat(f"{run.rootfs}/{path}")
            assert (status.st_uid, status.st_mode & 0o777) == (owner, 0o755)

    def test_a_way_through_a_file_is_the_steps_failure(self, run) -> None:
        result = run("true", cwd="/etc/passwd/../../y")
        assert (result.code, "not a directory" in result.err) == (1, True)

    def test_a_working_folder_below_a_file_is_a_fault(self, run) -> None:
        with pytest.raises(RuntimeFault, match="working dir"):
            run("true", cwd="/bin/busybox/x")

    def test_a_working_folder_that_is_a_file_is_the_steps_failure(self, run) -> None:
        result = run("true", cwd="/etc/passwd")
        assert (result.code, result.err) == (1, "mkdir /etc/passwd: not a directory\n")

    def test_a_working_folder_below_dev_is_made_there(self, run) -> None:
        assert run("pwd", cwd="/dev/a/b").out == "/dev/a/b\n"

    @pytest.mark.parametrize("cwd", ["/proc/none", "/sys/none"])
    def test_a_working_folder_that_the_kernel_does_not_make_is_the_steps_failure(self, run, cwd: str) -> None:
        result = run("true", cwd=cwd)
        assert result.code == 1
        assert cwd in result.err
        assert result.err.count("\n") == 1
        assert "config.json" not in result.err


class TestRestrictions:
    def test_root_has_buildkits_capabilities(self, run) -> None:
        fields = status_fields(run("cat /proc/self/status").out)
        assert [fields[name] for name in ("CapBnd", "CapPrm", "CapEff")] == ["00000000a80425fb"] * 3
        assert [fields[name] for name in ("CapInh", "CapAmb")] == ["0" * 16] * 2
        assert fields["Seccomp"] == "2"
        assert fields["NoNewPrivs"] == ("1" if run.name == "bwrap" else "0")

    def test_another_user_has_none_but_the_bounds_stay(self, run) -> None:
        fields = status_fields(run("cat /proc/self/status", user="app").out)
        assert [fields[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")] == ["0" * 16] * 4
        assert fields["CapBnd"] == "00000000a80425fb"

    @pytest.mark.parametrize("command", ["mount -t tmpfs x /tmp", "unshare -U true", "unshare -m true", "hostname other"])
    def test_namespaces_and_mounts_can_not_be_made(self, run, command: str) -> None:
        result = run(command)
        assert result.code != 0
        assert "not permitted" in result.err or "permission denied" in result.err

    def test_kernel_files_are_hidden_or_read_only(self, run) -> None:
        result = run(
            "cat /proc/keys /proc/timer_list 2>&1 | wc -c; ls /sys/firmware /proc/acpi | grep -v : | wc -w;"
            "echo x >/proc/sys/kernel/printk; touch /proc/irq/x; mkdir /sys/x"
        )
        lines = (result.out + result.err).splitlines()
        assert lines[:2] == ["0", "0"]
        assert sum("Read-only file system" in line for line in lines) == 2, lines

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is of amd64")
    @pytest.mark.parametrize(
        ("number", "argument", "error"),
        [
            pytest.param(5000, 0, errno.ENOSYS, id="newer-than-any-table"),
            pytest.param(323, 0, errno.EPERM, id="userfaultfd"),
            pytest.param(250, 0, errno.EPERM, id="keyctl"),
            pytest.param(435, 0, errno.ENOSYS, id="clone3"),
            pytest.param(56, 0x10000000, errno.EPERM, id="clone-of-a-user-namespace"),
            pytest.param(165, 0, errno.EPERM, id="mount"),
            pytest.param(39, 0, 0, id="getpid"),
        ],
    )
    def test_system_calls_are_refused_alike(self, run, number: int, argument: int, error: int) -> None:
        """Programs built for newer kernels fall back on ENOSYS, not on EPERM."""
        with open(f"{run.rootfs}/bin/call", "wb") as file:
            file.write(calling_program(number, argument))
        os.chmod(f"{run.rootfs}/bin/call", 0o755)
        assert run.run(("call",)).code == error

    def test_processes_of_the_host_are_not_seen(self, run) -> None:
        assert run("echo $$; ls -d /proc/[0-9]* | wc -l").out.split()[0] == "1"

    def test_no_descriptor_leaks_in_and_no_terminal(self, run) -> None:
        """CVE-2024-21626, CVE-2017-5226."""
        read, write = os.pipe()
        os.set_inheritable(read, True)
        os.set_inheritable(write, True)
        try:
            result = run("ls /proc/self/fd; (true </dev/tty) 2>&1 && echo terminal")
        finally:
            os.close(read)
            os.close(write)
        # 3 is ls reading the folder.
        assert result.out.split()[:4] == ["0", "1", "2", "3"]
        assert "terminal" not in result.out
        # The shell leads its own session.
        assert run("read -r line </proc/self/stat; echo $line").out.split()[5] == "1"

    @pytest.mark.parametrize("cwd", ["/proc/self/fd/7", "/proc/self/fd/8/.."])
    def test_the_working_folder_can_not_be_a_descriptor(self, run, cwd: str) -> None:
        try:
            result = run("pwd; ls", cwd=cwd)
        except RuntimeFault:
            return
        assert result.code != 0 or "home" not in result.out.split()

    def test_dev_null_of_the_image_is_not_used(self, run) -> None:
        """CVE-2025-31133: masks are bound from /dev/null; the image's may be a link to anything."""
        os.mkdir(f"{run.rootfs}/dev")
        os.symlink("/proc/sys/kernel/core_pattern", f"{run.rootfs}/dev/null")
        result = run("ls -l /dev/null; cat /proc/keys | wc -c")
        assert result.out.startswith("crw-rw-rw-")
        assert result.out.split()[-1] == "0"

    @pytest.mark.parametrize("name", ["proc", "sys"])
    def test_proc_or_sys_as_a_link_is_a_fault(self, run, name: str) -> None:
        os.symlink("/tmp", f"{run.rootfs}/{name}")
        with pytest.raises(RuntimeFault):
            run("true")
        assert os.listdir(f"{run.rootfs}/tmp") == []

    def test_an_insecure_sandbox_has_the_builders_capabilities(self, run) -> None:
        fields = status_fields(run("cat /proc/self/status", security="insecure").out)
        with open("/proc/self/status") as file:
            ours = status_fields(file.read())
        assert fields["CapEff"] == ours["CapEff"]
        assert fields["Seccomp"] == "0"
        assert run("mount -t tmpfs x /tmp && echo mounted", security="insecure").out == "mounted\n"


class TestSurroundings:
    def test_the_host_name_and_the_hosts_file(self, run) -> None:
        result = run("hostname; cat /etc/hosts", extra_hosts=(("db", "10.1.2.3"),))
        assert result.out == (
            "buildkitsandbox\n127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.2.3\tdb\n"
        )
        assert run("hostname; head -n1 /etc/hosts", hostname="other").out == "other\n127.0.0.1\tlocalhost other\n"

    def test_the_network_files_can_not_be_written(self, run) -> None:
        assert "Read-only" in run("echo x >/etc/hosts").err
        assert "Read-only" in run("echo x >/etc/resolv.conf").err

    def test_network_none_shows_no_interface_of_the_host_anywhere(self, run) -> None:
        result = run("ls /sys/class/net /sys/devices/virtual/net; cat /sys/class/net/lo/flags", network="none")
        assert result.out == "/sys/class/net:\nlo\n\n/sys/devices/virtual/net:\nlo\n0x9\n"  # IFF_UP, IFF_LOOPBACK
        assert "Read-only" in run("echo x >/sys/class/net/lo/ifalias", network="none").err

    def test_network_none_has_loopback_only_and_others_the_hosts(self, run) -> None:
        count = "cat /proc/net/dev | grep -c :"
        assert run(count, network="none").out == "1\n"
        with open("/proc/net/dev") as file:
            ours = sum(":" in line for line in file)
        for network in ("host", "sandbox"):
            assert int(run(count, network=network).out) == ours

    @pytest.mark.parametrize("options", [{"network": "wifi"}, {"security": "lax"}, {"ulimits": (("colour", 1, 1),)}])
    def test_an_unknown_option_is_named(self, run, options: dict[str, object]) -> None:
        with pytest.raises(RuntimeFault, match=r"wifi|lax|colour"):
            run("true", **options)

    def test_ulimits_hold(self, run) -> None:
        result = run("ulimit -n; ulimit -Hn; ulimit -c", ulimits=(("nofile", 100, 200), ("core", 0, 0)), user="app")
        assert result.out.split() == ["100", "200", "0"]

    def test_a_soft_limit_over_the_hard_one_is_a_fault(self, run) -> None:
        with pytest.raises(RuntimeFault, match="ulimit nofile=200:100"):
            run("true", ulimits=(("nofile", 200, 100),))

    @pytest.mark.parametrize(("size", "blocks"), [(None, 16384), (1 << 20, 256)])
    def test_shm_size_holds(self, run, size: int | None, blocks: int) -> None:
        assert run("stat -f -c %b /dev/shm; touch /dev/shm/x", shm_size=size).out == f"{blocks}\n"

    def test_the_standard_devices_are_there(self, run) -> None:
        result = run("for d in null zero full random urandom tty; do stat -c %F /dev/$d; done; ls -d /dev/pts /dev/mqueue /dev/shm")
        assert result.out.splitlines()[:6] == ["character special file"] * 6
        assert result.err == ""


class TestMounts:
    def test_binds_and_tmpfs_appear_where_asked(self, run, tmp_path) -> None:
        os.mkdir(f"{tmp_path}/cache")
        with open(f"{tmp_path}/secret", "w") as file:
            file.write("s3cret")
        mounts = (
            BindMount("/cache", f"{tmp_path}/cache"),
            BindMount("/cache/sub/secret", f"{tmp_path}/secret", readonly=True, is_file=True),
            BindMount("relative", f"{tmp_path}/cache", readonly=True),
            TmpfsMount("/scratch", 1 << 20),
        )
        result = run(
            "echo new >/cache/file; cat /cache/sub/secret; echo; cat /relative/file; stat -f -c %b /scratch;"
            "echo x >/cache/sub/secret; echo x >/relative/y",
            mounts=mounts,
        )
        assert result.out == "s3cret\nnew\n256\n"
        assert result.err.count("Read-only") == 2
        with open(f"{tmp_path}/cache/file") as file:
            assert file.read() == "new\n"

    def test_a_tmpfs_has_the_mode_of_what_it_covers_and_is_everybodys_where_nothing_was(self, run, tmp_path) -> None:
        """What runc does when it finds no folder, and so BuildKit's: a user can write without having asked for it."""
        os.makedirs(f"{run.rootfs}/old")
        os.chmod(f"{run.rootfs}/old", 0o2750)
        os.makedirs(f"{tmp_path}/bound/old")
        os.chmod(f"{tmp_path}/bound/old", 0o700)
        places = ("/old", "/new", "/bound/old", "/bound/new", "/new/er", "/dev/made")
        mounts = (BindMount("/bound", f"{tmp_path}/bound"), *(TmpfsMount(place, 1 << 20) for place in places))
        result = run(f"stat -c '%a %u:%g' {' '.join(places)}; touch /new/x && echo written", mounts=mounts, user="app")
        modes = ["2750", "1777", "700", "1777", "1777", "1777"]
        assert result.out.splitlines() == [*(f"{mode} 0:0" for mode in modes), "written"]

    @pytest.mark.parametrize(
        ("mount", "said"),
        [
            (TmpfsMount("/etc/passwd"), "cannot mount a tmpfs on /etc/passwd: not a directory"),
            (BindMount("/etc/passwd", "/bin"), "cannot mount a folder on /etc/passwd: not a directory"),
            (BindMount("/bin", "/etc/passwd"), "cannot mount a file on /bin: is a directory"),
        ],
    )
    def test_what_does_not_fit_its_place_is_named(self, run, mount: BindMount | TmpfsMount, said: str) -> None:
        with pytest.raises(RuntimeFault) as caught:
            run("true", mounts=(mount,))
        assert str(caught.value) == said

    def test_mount_points_leave_nothing_in_the_rootfs(self, run, tmp_path) -> None:
        with open(f"{tmp_path}/secret", "w") as file:
            file.write("s3cret")
        mounts = (BindMount("/run/secrets/a", f"{tmp_path}/secret", is_file=True), TmpfsMount("/new"))
        run("touch /new/x; cat /run/secrets/a", mounts=mounts)
        assert sorted(os.listdir(f"{run.rootfs}/etc")) == ["group", "passwd"]
        # BuildKit leaves the parent folder of a mount point, and the folders of the runtime's own mounts.
        assert sorted(os.listdir(run.rootfs)) == ["bin", "dev", "etc", "proc", "run", "sys", "tmp"]
        assert os.listdir(f"{run.rootfs}/run/secrets") == []
        for name in ("dev", "proc", "sys"):
            assert os.listdir(f"{run.rootfs}/{name}") == []
            assert os.stat(f"{run.rootfs}/{name}").st_mode & 0o7777 == 0o755

    def test_with_recursive_removal_the_parents_go_too(self, run) -> None:
        run("true", mounts=(TmpfsMount("/x/y/z"),), remove_stubs_recursive=True)
        assert "x" not in os.listdir(run.rootfs)

    def test_a_mount_point_behind_a_link_out_stays_inside(self, run, tmp_path) -> None:
        os.makedirs(f"{tmp_path}/outside")
        os.symlink(f"{tmp_path}/outside", f"{run.rootfs}/link")
        run("true", mounts=(TmpfsMount("/link/sub"),))
        assert os.listdir(f"{tmp_path}/outside") == []

    @pytest.mark.parametrize("name", ["resolv.conf", "hosts"])
    def test_a_network_file_that_is_a_link_is_mounted_at_its_target_inside(self, run, name: str) -> None:
        os.mkdir(f"{run.rootfs}/run")
        os.symlink("/run/target", f"{run.rootfs}/etc/{name}")
        assert run(f"cat /etc/{name}").out != ""
        assert os.listdir(f"{run.rootfs}/run") == []

    def test_a_working_folder_inside_a_mount_is_made_there(self, run, tmp_path) -> None:
        os.mkdir(f"{tmp_path}/cache")
        assert run("pwd", cwd="/cache/a/b", mounts=(BindMount("/cache", f"{tmp_path}/cache"),)).out == "/cache/a/b\n"
        assert os.path.isdir(f"{tmp_path}/cache/a/b")

    def test_a_working_folder_that_is_a_mount_point_goes_with_it(self, run) -> None:
        assert run("pwd; touch x", cwd="/work", mounts=(TmpfsMount("/work"),), user="0:0").out == "/work\n"
        assert "work" not in os.listdir(run.rootfs)

    def test_a_read_only_root_can_not_be_written(self, run) -> None:
        result = run("touch /tmp/x; touch /m/x && echo yes", readonly_root=True, mounts=(TmpfsMount("/m"),))
        assert "Read-only" in result.err
        assert result.out == "yes\n"

    def test_a_missing_source_is_named(self, run) -> None:
        with pytest.raises(RuntimeFault, match="mount /x: /none does not exist"):
            run("true", mounts=(BindMount("/x", "/none"),))


class TestCancel:
    def test_the_whole_sandbox_is_killed_at_once(self, run) -> None:
        cancelled = Token()
        result = run.run(
            ("/bin/sh", "-c", "trap '' TERM INT; sleep 1000 & echo ready; sleep 1000"),
            cancelled=cancelled,
            listen=lambda stream, data: cancelled.set(),
        )
        assert (result.code, result.status.signal) == (137, 9)

    def test_an_error_of_the_listener_ends_the_sandbox_and_comes_through(self, run) -> None:
        def listen(stream: int, data: bytes) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            run.run(("/bin/sh", "-c", "echo x; sleep 1000"), listen=listen)

    def test_many_run_at_once_from_threads(self, run, tmp_path) -> None:
        codes: dict[int, int] = {}

        def one(number: int) -> None:
            runner = Runner(run.name, make_rootfs(f"{tmp_path}/{number}"))
            codes[number] = runner(f"exit {number}").code

        threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes == {number: number for number in range(6)}


class TestSelect:
    def test_an_unknown_name_is_refused(self) -> None:
        with pytest.raises(RuntimeFault, match="unknown runtime docker"):
            executor.select("docker")

    @pytest.mark.parametrize("name", PROGRAMS)
    def test_a_forced_runtime_that_is_missing_is_named_with_what_to_do(self, monkeypatch, name: str) -> None:
        monkeypatch.setattr(executor, "find_program", lambda name: None)
        with pytest.raises(RuntimeFault, match=f"^{name} not found$") as caught:
            executor.select(name)
        assert caught.value.hint.startswith("apt install")

    def test_without_a_name_the_first_that_works_is_taken(self, monkeypatch) -> None:
        assert executor.select(None).name == "native"
        monkeypatch.setattr(NativeExecutor, "check", refuse)
        assert executor.select(None).name == "runc"
        real = executor.find_program
        monkeypatch.setattr(executor, "find_program", lambda name: None if name == "runc" else real(name))
        assert executor.select(None).name == "crun"

    def test_none_at_all_tells_why(self, monkeypatch) -> None:
        monkeypatch.setattr(NativeExecutor, "check", refuse)
        monkeypatch.setattr(UnprivilegedExecutor, "check", refuse)
        monkeypatch.setattr(executor, "find_program", lambda name: None)
        every = "no way to run a sandbox: refused; runc not found; crun not found; bwrap not found; refused"
        with pytest.raises(RuntimeFault, match=every):
            executor.select(None)

    def test_without_namespaces_the_last_one_is_taken_or_the_reason_told(self, monkeypatch) -> None:
        nowhere = Entered("none", reasons=("cannot make a user namespace: no",), hint="try")
        assert executor.select(None, nowhere).name == "unprivileged"
        with pytest.raises(RuntimeFault, match="runc can't be had here: cannot make a user namespace: no") as caught:
            executor.select("runc", nowhere)
        assert caught.value.hint == "try"
        monkeypatch.setattr(UnprivilegedExecutor, "check", refuse)
        with pytest.raises(RuntimeFault, match="no way to run a sandbox: cannot make a user namespace: no; refused"):
            executor.select(None, nowhere)

    def test_options_that_can_not_be_had_are_told_without_a_look_at_files(self, run) -> None:
        """Before anything is pulled for the step."""
        for options in ({"network": "wifi"}, {"security": "lax"}, {"ulimits": (("nofile", 2, 1),)}):
            with pytest.raises(RuntimeFault):
                run.executor.admit(Sandbox("/none", **options))
        if run.name == "bwrap":
            with pytest.raises(RuntimeFault, match="bwrap can't honour --cgroup-parent"):
                run.executor.admit(Sandbox("/none", cgroup_parent="x"))
        else:
            run.executor.admit(Sandbox("/none", cgroup_parent="x"))
