"""Steps where the kernel grants less than root: a supervisor beside the step answers some of its system calls.

By seccomp user notification (seccomp_unotify(2)), which needs no capability: ``traps`` says which calls, ``service`` is the process
that answers them. ``owners`` keeps owners and ids that the kernel can't: in a user namespace of a single id. ``views`` shows
/proc and /sys in a bare chroot, where nothing can be mounted. ``keeper`` and ``executor`` are that chroot.
"""
