"""What runs inside the sandbox, first part: one job, and the walls around it.

The files of this folder are one program: job.py, calls.py, warden.py, in this order. It is trusted;
the code of a job runs in processes forked from it, behind the walls made here.
"""
import array
import builtins
import ctypes
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
import types

# What programs often import: loaded once here.
import bisect, collections, copy, datetime, decimal, fractions, functools, heapq, io  # noqa: E401,F401
import itertools, math, operator, random, re, statistics, string, threading, typing  # noqa: E401,F401

CONTROL, FILTER = 3, 4
PAGE = resource.getpagesize()
WATCH_INTERVAL_S = 0.02
MAX_STARVED = 4  # times the wall time, at most, that waiting for a processor adds to it
MAX_RECORD_BYTES = 1 << 24
MAX_COLLECTED_BYTES = 1 << 26
JOB_FILE = "/tmp/main.py"

libc = ctypes.CDLL(None, use_errno=True)
seccomp_filter = ctypes.create_string_buffer(os.pread(FILTER, 1 << 16, 0))
os.close(FILTER)


def call(function, *arguments):
    if function(*arguments) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{function.__name__}: {os.strerror(error)}")


# ---- The walls around one job -------------------------------------------------------------------

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID = 0x20000, 0x8000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8


def enter_namespaces(request):
    call(libc.unshare, CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID)
    options = f"size={request['tmp_bytes']},nr_inodes={request['tmp_files']},mode=700"
    call(libc.mount, b"tmpfs", b"/tmp", b"tmpfs", MS_NOSUID | MS_NODEV, options.encode())
    call(libc.mount, b"tmpfs", b"/proc", b"tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
         b"size=4k,nr_inodes=1")
    os.chdir("/tmp")


def set_limits(request):
    for name in ("cpu", "as", "fsize", "nproc", "nofile", "stack", "core"):
        limit = request["limits"][name]
        resource.setrlimit(getattr(resource, "RLIMIT_" + name.upper()), (limit, limit))


def drop_capabilities():
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    call(libc.capset, header, (ctypes.c_uint32 * 6)())


def install_seccomp():
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    program = Program((len(seccomp_filter) - 1) // 8, ctypes.addressof(seccomp_filter))
    call(libc.prctl, 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    call(libc.prctl, 22, 2, ctypes.byref(program), 0, 0)  # PR_SET_SECCOMP, MODE_FILTER


def take_descriptors(fds):
    """Leaves 0, 1, 2 and, if there is one, the channel as 3."""
    wanted = [fds["stdin"], fds["stdout"], fds["stderr"]]
    if "channel" in fds:
        wanted.append(fds["channel"])
    high = [os.dup(fd) for fd in wanted]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=target < 3)
    close_descriptors(len(wanted))


def close_descriptors(first):
    call(libc.close_range, first, 0xFFFFFFFF, 0)


# ---- One job ------------------------------------------------------------------------------------


def run_job(request, source, fds):
    """The first process of the job's namespaces; does not return."""
    status = 1
    try:
        # A signal to the process group crosses namespaces.
        os.setsid()
        take_descriptors(fds)
        set_limits(request)
        drop_capabilities()
        install_seccomp()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL if request["argv"] else signal.SIG_IGN)
        if request["argv"]:
            os.execve(request["argv"][0], request["argv"], dict(os.environ))
        reset_interpreter()
        status = JOBS[request["kind"]](request, source)
    except BaseException as error:
        status = report_exception(error)
    finally:
        end_process(status)


def reset_interpreter():
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="backslashreplace",
                                       closefd=False)
    sys.argv = [JOB_FILE]
    sys.path.insert(0, "/tmp")
    sys.set_int_max_str_digits(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed(0)


def report_exception(error):
    """What an interpreter does with an exception that nobody caught."""
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename != JOB_FILE:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)
    return 1


def end_process(status):
    try:
        threading._shutdown()
        import atexit
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        status = status or 1
    os._exit(status)


def new_module(name, source, known=builtins):
    """Runs the source as the module; returns its namespace, in which only its own names are."""
    module = types.ModuleType(name)
    module.__dict__.update(__file__=JOB_FILE, __builtins__=known)
    sys.modules[name] = module
    with open(JOB_FILE, "wb") as file:
        file.write(source)
    exec(compile(source, JOB_FILE, "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


def run_script(request, source):
    new_module("__main__", source)
    return 0
