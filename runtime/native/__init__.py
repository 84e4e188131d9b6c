"""The native executor: a small OCI runtime in this process family, for the one configuration that pybuild writes (runtime.oci).

    executor  the builder's side: makes the Job
    start     P1's side: cgroups, the fork, the order of what happens in the child
    rootfs    the child's: mounts, devices, masks, pivot_root
    credentials  limits, seccomp, groups, user, capability sets
    command   finding and executing the command, and what is said when that fails

The steps and their order are those of runc's init (libcontainer/{rootfs,init,standard_init}_linux.go), since runc is what BuildKit
runs. runc and crun stay for who asks for them; here they would cost a program's start, a second one for its init, and the
compilation of the seccomp policy at every step.
"""
