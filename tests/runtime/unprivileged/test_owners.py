"""A step in a user namespace with one id: owners, modes and ids are as root has them."""

from __future__ import annotations

import os
import subprocess

import pytest

from runtime.linux.overrides import NAME, Override, read_table
from runtime.unprivileged.target import Stats, Target
from tests.runtime.test_rootless import NOBODY, as_nobody, folder  # noqa: F401  (a fixture)

pytestmark = pytest.mark.integration

STEP = """
namespaces.enter_user_namespace()
zygote.get()
print(run("native", sys.argv[3], sys.argv[4], owners=sys.argv[2] + ".owners"))
"""
TOOLS = ["chown", "stat", "ln", "mkfifo", "find", "id", "chgrp", "cp", "su", "ls", "tar", "mv", "setpriv", "cut", "xargs"]


@pytest.fixture
def root(folder: str) -> str:  # noqa: F811
    for name in TOOLS:
        if not os.path.lexists(f"{folder}/bin/{name}"):
            os.symlink("busybox", f"{folder}/bin/{name}")
    return folder


def step(root: str, script: str, user: str = "") -> subprocess.CompletedProcess[str]:
    return as_nobody(STEP, root, script, user)


def override(path: str) -> Override | None:
    return Override.decode(os.getxattr(path, NAME, follow_symlinks=False))


def test_what_chown_says_is_seen_and_kept(root: str) -> None:
    script = "touch /f; mkdir /d; chown 5:6 /f; chown :7 /d; chmod 2750 /d; stat -c '%u:%g %a' /f /d; mv /f /g; stat -c %u /g"
    done = step(root, script)
    assert done.stdout == "5:6 644\n0:7 2750\n5\n0\n", done.stderr
    assert override(f"{root}/g") == Override(5, 6, 0o644)
    assert override(f"{root}/d") == Override(0, 7, 0o2750)


def test_what_is_root_s_again_has_no_override(root: str) -> None:
    assert step(root, "touch /f; chown 5:6 /f; chown 0:0 /f").stdout == "0\n"
    assert os.listxattr(f"{root}/f") == []


def test_chown_takes_the_set_id_bits_of_files(root: str) -> None:
    script = "touch /f /g; chmod 6755 /f /g; chown 5 /f; stat -c %a /f; chmod 6755 /f; stat -c %a /f; chown 0 /g; stat -c %a /g"
    done = step(root, script)
    assert done.stdout == "755\n6755\n755\n0\n", done.stderr


def test_links_fifos_and_sockets_are_lines_of_the_table(root: str) -> None:
    script = "ln -s /nowhere /l; mkfifo /p; chown -h 5:6 /l; chown 7:8 /p; stat -c %u:%g /l /p; rm /p; mkfifo /p; stat -c %u /p"
    done = step(root, script)
    assert done.stdout == "5:6\n7:8\n0\n0\n", done.stderr
    table = read_table(root + ".owners")
    assert table[Stats().inode(Target(os.fsencode(f"{root}/l"), follow=False))] == (5, 6)
    assert Stats().inode(Target(os.fsencode(f"{root}/p"), follow=False)) not in table


def test_device_nodes_are_empty_files_that_say_what_they_are(root: str) -> None:
    done = step(root, "mknod /c c 1 3; mknod /b b 254 7; stat -c '%F %t %T %a' /c /b; chown 1:2 /c; chmod 640 /c; ls -ln /c")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["character special file 1 3 644", "block special file fe 7 644"], done.stderr
    assert lines[2].split()[:6] == ["crw-r-----", "1", "1", "2", "1,", "3"]
    assert os.getxattr(f"{root}/c", NAME) == b"1:2:640:char-1-3"
    assert os.getxattr(f"{root}/b", NAME) == b"0:0:644:block-254-7"
    assert os.path.getsize(f"{root}/c") == 0


def test_another_user_s_step_is_his_and_so_are_its_files(root: str) -> None:
    script = "id -u; id -g; id -G; umask 027; touch /tmp/f; mkdir /tmp/d; ln -s f /tmp/l; echo x >/tmp/g; stat -c '%u:%g %a' /tmp/*"
    done = step(root, script, "app")
    assert done.stdout == "1000\n1001\n1001 2000\n1000:1001 750\n1000:1001 640\n1000:1001 640\n1000:1001 777\n0\n", done.stderr
    assert override(f"{root}/tmp/f") == Override(1000, 1001, 0o640)


def test_another_user_may_not_change_owners_or_become_root(root: str) -> None:
    script = "touch /tmp/f; chown 0 /tmp/f; chown 1000:2000 /tmp/f && echo his group; mknod /tmp/c c 1 3; chown 1000 /bin"
    done = step(root, script, "app")
    assert done.stdout == "his group\n1\n"
    assert done.stderr.count("Operation not permitted") == 3


def test_a_folder_with_the_set_group_id_bit_hands_its_group_on(root: str) -> None:
    script = "mkdir /d; chown 0:50 /d; chmod 2775 /d; touch /d/f; mkdir /d/e; touch /d/e/g; stat -c '%u:%g %a' /d/f /d/e /d/e/g"
    done = step(root, script)
    assert done.stdout == "0:50 644\n0:50 2755\n0:50 644\n0\n", done.stderr


def test_ids_go_to_children_and_stay_with_those_who_changed_them(root: str) -> None:
    """su sets groups, group and user; its children have them, its parent does not."""
    with open(f"{root}/etc/passwd", "a") as file:
        file.write("two:x:2:3::/:/bin/sh\n")
    done = step(root, """su two -c 'id -u; sh -c "id -g; (sh -c \\"id -u; touch /tmp/f\\")"'; id -u; stat -c %u:%g /tmp/f""")
    assert done.stdout == "2\n3\n2\n0\n2:3\n0\n", done.stderr


def compile_into(root: str, name: str, text: str) -> None:
    """A static program: no tool of busybox does this."""
    with open(f"{os.path.dirname(root)}/{name}.c", "w") as file:
        file.write(text)
    subprocess.run(["cc", "-static", "-o", f"{root}/bin/{name}", file.name], capture_output=True, check=True)
    os.chown(f"{root}/bin/{name}", NOBODY, NOBODY)


def test_a_set_user_id_program_runs_as_its_owner(root: str) -> None:
    text = '#include <unistd.h>\n#include <stdio.h>\nint main(){printf("%d %d %d %d\\n",geteuid(),getegid(),getuid(),getgid());}'
    compile_into(root, "ids", text)
    done = step(root, "chown 7:8 /bin/ids; su app -c ids; chmod 6755 /bin/ids; su app -c ids; ids")
    assert done.stdout == "1000 1001 1000 1001\n7 8 1000 1001\n7 8 0 0\n0\n", done.stderr


def test_the_override_is_nobody_s_to_see_or_to_forge(root: str) -> None:
    text = f"""
#include <sys/xattr.h>
#include <stdio.h>
#include <errno.h>
int main() {{
    char b[999];
    const char *n = "{NAME}";
    setxattr("/f", "user.mine", "1", 1, 0);
    long s = listxattr("/f", 0, 0), l = listxattr("/f", b, 999);
    printf("%ld %ld %s\\n", s, l, b);
    printf("%d ", (int)getxattr("/f", n, b, 999)), printf("%d ", errno == ENODATA);
    printf("%d ", setxattr("/f", n, "0:0:644", 7, 0)), printf("%d ", (int)getxattr("/f", n, b, 999)), printf("%.7s ", b);
    printf("%ld ", (long)listxattr("/f", 0, 0));
    printf("%d ", setxattr("/proc/self/cwd/f", n, "0:0:644", 7, 0)), printf("%d ", errno == EPERM);
    printf("%d ", setxattr("/f", "user.pybuild.override_stat", "0:0:644", 7, 0)), printf("%d ", errno == EPERM);
    printf("%d\\n", removexattr("/f", n));
}}
"""
    compile_into(root, "probe", text)
    done = step(root, "touch /f; chown 5:6 /f; probe; stat -c %u /f")
    assert done.stdout == "10 10 user.mine\n-1 1 0 7 0:0:644 40 -1 1 -1 1 0\n5\n0\n", done.stderr


def test_a_chroot_of_the_step_s_has_its_own_names(root: str) -> None:
    script = "in='chroot /r /bin/busybox'; mkdir -p /r/bin\n"
    script += "cp /bin/busybox /r/bin; touch /f /r/f; chown 5 /f; $in chown 7:8 /f; stat -c %u /f /r/f"
    done = step(root, f"{script}; $in stat -c %u /f")
    assert done.stdout == "5\n7\n7\n0\n", done.stderr


def test_the_step_ends_with_a_word_when_nobody_answers_any_more(root: str) -> None:
    script = """
import signal
from runtime.errors import RuntimeFault
namespaces.enter_user_namespace()
zygote.get()
def parents():
    for pid in os.listdir("/proc"):
        try: yield int(pid), int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
        except (OSError, ValueError): continue  # gone meanwhile, or no process
def kill(stream, data):
    # The helper's only descendants: the supervisor, its child and, of that one, the step and who answers it.
    everybody = dict(parents())
    first = {zygote.get().pid}
    for _ in range(2):  # the supervisor of the sandbox that was tried may not be reaped yet: it has no children
        first = {p for p, above in everybody.items() if above in first}
    for pid in (p for p, above in everybody.items() if above in first):
        try: is_step = open(f"/proc/{pid}/cmdline", "rb").read().startswith(b"/bin/sh")
        except OSError: continue  # one that set the step up, and is gone
        if not is_step: os.kill(pid, signal.SIGKILL)
process = Process(("/bin/sh", "-c", "echo go; sleep 1000"), ("PATH=/bin",), "/", "")
try: executor.select("native").run(Sandbox(sys.argv[2], owners=sys.argv[2] + ".owners"), process, kill, NEVER)
except RuntimeFault as fault: print(fault)
"""
    done = as_nobody(script, root)
    assert done.returncode == 0, done
    assert done.stdout == "cannot set up the sandbox: the process that answers the step's system calls died\n", done.stderr
