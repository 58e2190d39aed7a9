"""System calls by name, with their numbers on x86-64 and on ARM (asm/unistd.h; "-" where there is no such call).

``ALLOWED`` is what CPython, numpy and torch need to compute on a CPU: recorded with strace while the sample models and
those of twelve more architectures were imported, built and called, with the equivalents that other versions of the C
library use in their place. Everything else is refused; ``REPORTED`` says what a refused call means.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ALLOWED", "ARCHITECTURES", "FOLDER_CALLS", "OPENING", "REPORTED", "number_of"]

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machine -> the kernel's number of its architecture."""

_Table = dict[str, tuple[int | None, int | None]]


def _table(text: str) -> _Table:
    """Return name -> numbers on x86-64 and ARM."""
    rows = [item.split() for item in text.split(",")]
    return {name: (_number(first), _number(second)) for name, first, second in rows}


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


ALLOWED = _table("""
    read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, preadv 295 69, pwritev 296 70,
    lseek 8 62, dup 32 23, fstat 5 80, newfstatat 262 79,
    stat 4 -, lstat 6 -, statx 332 291, statfs 137 43, fstatfs 138 44, getdents 78 -, getdents64 217 61, access 21 -,
    faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267 78, getcwd 79 17, ftruncate 77 46, fsync 74
    82, fdatasync 75 83, fadvise64 221 223, flock 73 32, pipe 22 -, pipe2 293 59, poll 7 -, ppoll 271 73, select 23 -,
    pselect6 270 72, epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22,
    eventfd 284 -, eventfd2 290 19, mmap 9 222, munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233, brk 12
    214, msync 26 227, mincore 27 232, mlock 149 228, munlock 150 229, membarrier 324 283, mbind 237 235,
    set_mempolicy 238 237, get_mempolicy 239 236, futex 202 98, futex_waitv 449 449, set_robust_list 273 99,
    get_robust_list 274 100, rseq 334 293, set_tid_address 218 96, sched_yield 24 124, sched_getaffinity 204 123,
    sched_getparam 143 121, sched_getscheduler 145 120, sched_get_priority_max 146 125, sched_get_priority_min 147
    126, getcpu 309 168, gettid 186 178, getpid 39 172, getppid 110 173, getuid 102 174, geteuid 107 175, getgid 104
    176, getegid 108 177, getgroups 115 158, getpgrp 111 -, getpgid 121 155, getsid 124 156, getresuid 118 148,
    getresgid 120 150, capget 125 90, uname 63 160, sysinfo 99 179, times 100 153, getrusage 98 165, getrlimit 97 163,
    gettimeofday 96 169, time 201 -, clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, nanosleep
    35 101, getitimer 36 102, setitimer 38 103, alarm 37 -, rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn
    15 139, rt_sigpending 127 136, rt_sigtimedwait 128 137, sigaltstack 131 132, restart_syscall 219 128, getrandom
    318 278, arch_prctl 158 -, exit 60 93, exit_group 231 94, getpriority 140 141, pause 34 -, timerfd_create 283 85,
    timerfd_settime 286 86, timerfd_gettime 287 87
""")

FOLDER_CALLS = _table("mkdir 83 -, mkdirat 258 34, unlink 87 -, unlinkat 263 35, rmdir 84 -")
"""Watched from outside and refused outside the scratch folder; without a listener allowed: Landlock confines them."""

OPENING = _table("open 2 -, openat 257 56, openat2 437 437, creat 85 -")
"""Allowed, and watched from outside."""

SPECIAL = _table("""
    ioctl 16 29, fcntl 72 25, prctl 157 167, clone3 435 435, clone 56 220, kill 62 129, tkill 200 130, tgkill 234 131,
    prlimit64 302 261, sched_setaffinity 203 122, close 3 57, dup2 33 -, dup3 292 24, close_range 436 436
""")
"""Allowed with some arguments."""

REPORTED: Mapping[str, _Table] = {
    "it uses the network": _table("""
        socket 41 198, socketpair 53 199, connect 42 203, bind 49 200, listen 50 201, accept 43 202, accept4 288 242,
        sendto 44 206, recvfrom 45 207, sendmsg 46 211, recvmsg 47 212, sendmmsg 307 269, recvmmsg 299 243, getsockopt
        55 209, setsockopt 54 208, getsockname 51 204, getpeername 52 205, shutdown 48 210
    """),
    "it starts another program": _table("""
        execve 59 221, execveat 322 281, fork 57 -, vfork 58 -, clone 56 220
    """),
    "it reaches another process": _table("""
        ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, kill 62 129, tkill 200 130, tgkill 234
        131, pidfd_open 434 434, pidfd_getfd 438 438, pidfd_send_signal 424 424, rt_sigqueueinfo 129 138,
        rt_tgsigqueueinfo 297 240, process_madvise 440 440, kcmp 312 272, sched_setattr 314 274, ioprio_set 251 30,
        migrate_pages 256 238, move_pages 279 239, setpgid 109 154, setsid 112 157
    """),
    "it changes files": _table("""
        chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, chown 92 -, fchown 93 55, lchown 94 -, fchownat
        260 54, utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88, setxattr 188 5, lsetxattr 189 6,
        fsetxattr 190 7, removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16, rename 82 -, renameat 264 38,
        renameat2 316 276, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36, mknod 133 -, mknodat 259 33,
        truncate 76 45
    """),
    "it closes the connection to its parent": _table("close 3 57, dup2 33 -, dup3 292 24, close_range 436 436"),
    "it uses memory files or shared memory": _table("""
        memfd_create 319 279, memfd_secret 447 447, shmget 29 194, shmat 30 196, shmctl 31 195, semget 64 190, semop
        65 193, semctl 66 191, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187, mq_open 240 180
    """),
    "it changes the system": _table("""
        mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, unshare 272 97, setns 308 268, bpf 321 280,
        perf_event_open 298 241, userfaultfd 323 282, io_uring_setup 425 425, open_tree 428 428, move_mount 429 429,
        fsopen 430 430, init_module 175 105, finit_module 313 273, kexec_load 246 104, reboot 169 142, swapon 167 224,
        swapoff 168 225, sethostname 170 161, setdomainname 171 162, settimeofday 164 170, clock_settime 227 112,
        adjtimex 159 171, iopl 172 -, ioperm 173 -, add_key 248 217, request_key 249 218, keyctl 250 219, acct 163 89,
        quotactl 179 60, seccomp 317 277, landlock_create_ruleset 444 444, inotify_init 253 -, inotify_init1 294 26,
        fanotify_init 300 262
    """),
}
"""End of a sentence "The code ..." -> calls that mean it. Calls in none of the tables are refused without a word."""


def number_of(name: str, machine: str) -> int | None:
    """Return the number of a call on a machine, None if there is none.

    Example:
        >>> number_of("openat", "x86_64"), number_of("openat", "aarch64"), number_of("fork", "aarch64")
        (257, 56, None)
    """
    for table in (ALLOWED, FOLDER_CALLS, OPENING, SPECIAL, *REPORTED.values()):
        if name in table:
            return table[name][list(ARCHITECTURES).index(machine)]
    return None
