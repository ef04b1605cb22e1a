"""Third part: starts one job after another, each in namespaces of its own.

Descriptor 3 is a SOCK_SEQPACKET socket to the host, descriptor 4 the seccomp filter of jobs. A
request is one message: a JSON object, and descriptors named by its list "fds". For each, a warden
is forked: it enters new mount, process and IPC namespaces with an empty /tmp and an empty /proc,
forks the job as their first process, kills it at the deadline or when the host lets go of
"lifeline", and replies. The code of a job is never run in any other process. This interpreter has
the usual modules loaded, so that a job starts in the time of a fork.
"""


def read_all(fd):
    data, offset = bytearray(), 0
    while part := os.pread(fd, 1 << 20, offset):
        data += part
        offset += len(part)
    return bytes(data)


def put_files(request, fds):
    for name, mode in request["files"].items():
        fd = os.open("/tmp/" + name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        os.write(fd, b"") if not (data := read_all(fds["file:" + name])) else write_all(fd, data)
        os.close(fd)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def collect_file(name, target):
    """Hands a file of the job to the host: a plain file only, never what a link points to."""
    try:
        fd = os.open("/tmp/" + name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    info = os.fstat(fd)
    if info.st_mode & 0o170000 == 0o100000 and info.st_size <= MAX_COLLECTED_BYTES:
        write_all(target, read_all(fd))
    os.close(fd)


def job_memory(proc):
    """Bytes that the job's processes and its /tmp hold; pages shared by a fork count once each."""
    total = 0
    for name in os.listdir(proc):
        if not name.isdigit() or int(name) in (1, os.getpid()):
            continue
        try:
            fd = os.open(name + "/statm", os.O_RDONLY, dir_fd=proc)
            fields = os.read(fd, 200).split()
            os.close(fd)
            total += (int(fields[1]) - int(fields[2])) * PAGE
        except (OSError, IndexError):
            continue
    disk = os.statvfs("/tmp")
    return total + (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def time_without_cpu(job, proc):
    """Seconds that the job's first process was ready to run and had no processor."""
    try:
        fd = os.open(f"{job}/schedstat", os.O_RDONLY, dir_fd=proc)
        fields = os.read(fd, 200).split()
        os.close(fd)
        return int(fields[1]) / 1e9
    except (OSError, IndexError):
        return 0


def watch(request, job, lifeline, proc):
    """Waits for the end of the job's first process; returns what ended it."""
    limit = request["wall_ms"] / 1000
    start, starved = time.monotonic(), 0
    pidfd = os.pidfd_open(job)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(lifeline, select.POLLIN)
    while True:
        left = start + limit + starved - time.monotonic()
        if left <= 0:
            # A busy machine must not turn a right answer wrong.
            waited = min(time_without_cpu(job, proc), MAX_STARVED * limit)
            if waited - starved < limit / 50:
                return "wall"
            starved = waited
            continue
        interval = min(left, WATCH_INTERVAL_S) if request["watch_memory"] else left
        ready = [fd for fd, _ in poll.poll(interval * 1000 + 1)]
        if pidfd in ready:
            return "ended"
        if lifeline in ready:
            return "cancelled"
        if request["watch_memory"] and job_memory(proc) > request["memory_bytes"]:
            return "memory"


def guard_job(request, fds):
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    source = read_all(fds["source"])
    enter_namespaces(request)
    put_files(request, fds)
    start = time.monotonic()
    job = os.fork()
    if job == 0:
        run_job(request, source, fds)
    for name in ("stdin", "stdout", "stderr", "channel"):
        if name in fds:
            os.close(fds[name])
    try:
        fd = os.open(f"{job}/oom_score_adj", os.O_WRONLY, dir_fd=proc)
        os.write(fd, b"1000")
        os.close(fd)
    except OSError:
        pass  # it has ended
    stop = watch(request, job, fds["lifeline"], proc)
    if stop != "ended":
        os.kill(job, signal.SIGKILL)
    # The first process of a namespace is reaped after every other one of it is gone.
    _, status, usage = os.wait4(job, 0)
    if "collect" in fds:
        collect_file(request["collect"], fds["collect"])
    reply = {"stop": stop, "code": os.waitstatus_to_exitcode(status),
             "cpu_us": int((usage.ru_utime + usage.ru_stime) * 1e6),
             "max_rss_bytes": usage.ru_maxrss * 1024,
             "wall_us": int((time.monotonic() - start) * 1e6)}
    socket.socket(fileno=CONTROL).send(json.dumps(reply).encode())


# ---- The zygote ---------------------------------------------------------------------------------


def serve_host():
    control = socket.socket(fileno=CONTROL)
    control.send(b'{"ready": true}')
    while True:
        message, fds, _, _ = socket.recv_fds(control, 1 << 16, 64)
        if not message:
            return
        request = json.loads(message)
        warden = os.fork()
        if warden == 0:
            try:
                guard_job(request, dict(zip(request["fds"], fds)))
            except BaseException:
                reply = {"stop": "failed", "detail": traceback.format_exc()[-2000:]}
                control.send(json.dumps(reply).encode())
            os._exit(0)
        for fd in fds:
            os.close(fd)
        _, status = os.waitpid(warden, 0)
        if status != 0:
            control.send(b'{"stop": "failed", "detail": "the warden was killed"}')


import gc

gc.collect()
gc.freeze()
serve_host()
os._exit(0)
