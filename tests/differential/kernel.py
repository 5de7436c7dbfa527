"""Runs socket programs on this machine's Linux kernel, each in a process and a network namespace of its own.

stdin: {name: [[call, argument, ...], ...]}; stdout: {name: {"results": [...], "counters": {...}, "sysctls": {...},
"error": null}}. A result is what the call returned: a number (negative: -errno), received text, or a list. Sockets never
block, and every call is followed by a moment in which the namespace comes to rest. Programs that wait run side by side,
the others one after the other, so that they do not disturb each other. Needs root. `ours.ts` has the same calls.
"""

import ctypes, fcntl, json, os, select, socket, struct, sys, time, traceback

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40
STATES = "ESTAB SYN-SENT SYN-RECV FIN-WAIT-1 FIN-WAIT-2 TIME-WAIT UNCONN CLOSE-WAIT LAST-ACK LISTEN CLOSING SYN-RECV"
REST_S = 0.001
POLL = select.POLLIN | select.POLLOUT | select.POLLRDHUP


class Machine:
    def __init__(self):
        self.files = {}
        self.counters_at_start = counters()

    def socket(self, name, kind):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        made.setblocking(False)
        self.files[name] = made
        return 0

    def bind(self, name, port, address):
        self.files[name].bind((address, port))
        return 0

    def listen(self, name, backlog):
        self.files[name].listen(backlog)
        return 0

    def connect(self, name, port, address):
        self.files[name].connect((address, port))
        return 0

    def accept(self, listener, name):
        self.files[name], _ = self.files[listener].accept()
        self.files[name].setblocking(False)
        return 0

    def send(self, name, text, flags):
        return self.files[name].send(text.encode(), flags | socket.MSG_NOSIGNAL)

    def fill(self, name):
        """Sends until the kernel takes no more."""
        try:
            while True:
                self.files[name].send(bytes(65536), socket.MSG_NOSIGNAL)
        except OSError as error:
            return -error.errno

    def sendto(self, name, text, port):
        return self.files[name].sendto(text.encode(), ("127.0.0.1", port))

    def recv(self, name, most, flags):
        return self.files[name].recv(most, flags).decode()

    def shutdown(self, name, how):
        self.files[name].shutdown(how)
        return 0

    def close(self, name):
        self.files[name].close()
        return 0

    def set(self, name, level, option, value):
        self.files[name].setsockopt(level, option, value)
        return 0

    def linger(self, name, on, seconds):
        self.files[name].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, seconds))
        return 0

    def get(self, name, level, option):
        return self.files[name].getsockopt(level, option)

    def info(self, name):
        """TCP_INFO: state, snd_wscale, rcv_wscale, unacked, snd_cwnd."""
        raw = self.files[name].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        words = struct.unpack_from("24I", raw, 8)
        return [raw[0], raw[6] & 15, raw[6] >> 4, words[4], words[18]]

    def names(self, name):
        """Whether getsockname and getpeername know a port."""
        return [port_of(self.files[name].getsockname), port_of(self.files[name].getpeername)]

    def poll(self, name):
        poller = select.poll()
        poller.register(self.files[name], POLL)
        return poller.poll(0)[0][1] if poller.poll(0) else 0

    def until(self, name, events, most_ms):
        """Waits for readiness: the events, and how many milliseconds it took."""
        poller = select.poll()
        poller.register(self.files[name], events)
        start = time.monotonic()
        ready = poller.poll(most_ms)
        return [ready[0][1] if ready else 0, (time.monotonic() - start) * 1000]

    def epoll(self, name):
        self.files[name] = select.epoll()
        return 0

    def ctl(self, name, operation, target, events):
        poller, fd = self.files[name], self.files[target].fileno()
        if operation == "add":
            poller.register(fd, events)
        elif operation == "mod":
            poller.modify(fd, events)
        else:
            poller.unregister(fd)
        return 0

    def events(self, name):
        """epoll_wait without waiting: [file, events], sorted."""
        names = {file.fileno(): key for key, file in self.files.items() if file is not self.files[name]}
        return sorted([names[fd], events] for fd, events in self.files[name].poll(0))

    def sysctl(self, name, value):
        with open("/proc/sys/" + name.replace(".", "/"), "w") as file:
            file.write(value)
        return 0

    def wait(self, ms):
        time.sleep(ms / 1000)
        return 0

    def ss(self):
        """Rows of /proc/net/tcp as `ss -tan` shows them, without a listener's backlog; ports the kernel chose are *."""
        with open("/proc/self/net/tcp") as file:
            return sorted(row(*line.split()[1:5]) for line in file.read().splitlines()[1:])

    def count(self, *names):
        now = counters()
        return [now[name] - self.counters_at_start.get(name, 0) for name in names]


def port_of(call):
    try:
        return "a port" if call()[1] > 0 else "no port"
    except OSError as error:
        return -error.errno


def row(local, peer, state, queues):
    ports = [int(name.split(":")[1], 16) for name in (local, peer)]
    sent, received = [int(bytes_, 16) for bytes_ in queues.split(":")]
    if state == "0A":
        sent = 0  # What a listener shows here is left over from an earlier life of the socket.
    shown = [str(port) if 0 < port < 32768 else "*" for port in ports]
    return f"{STATES.split()[int(state, 16) - 1]} {received} {sent} {shown[0]} {shown[1]}"


def counters():
    """Every counter of /proc/net/snmp and /proc/net/netstat under nstat's name."""
    found = {}
    for path in ("/proc/self/net/snmp", "/proc/self/net/netstat"):
        lines = open(path).read().splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            group = names.split(":")[0]
            found |= {group + name: int(value) for name, value in zip(names.split()[1:], values.split()[1:])}
    return found


def sysctls():
    """net.ipv4.tcp_* and the buffer limits of net.core, so that our stack can be set to the same."""
    names = [f"ipv4/{name}" for name in os.listdir("/proc/sys/net/ipv4") if name.startswith("tcp_")]
    names += [f"core/{name}" for name in ("rmem_default", "rmem_max", "wmem_default", "wmem_max", "somaxconn")]
    found = {}
    for name in names:
        try:
            with open(f"/proc/sys/net/{name}") as file:
                found["net." + name.replace("/", ".")] = " ".join(file.read().split())
        except OSError:
            pass  # Not of this namespace, or not to be read.
    return found


def run(program):
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", IFF_UP | IFF_RUNNING, b""))
    machine, results = Machine(), []
    machine.sysctl("net.ipv4.tcp_congestion_control", "reno")
    found = sysctls()
    for call, *arguments in program:
        try:
            results.append(getattr(machine, call)(*arguments))
        except OSError as error:
            results.append(-error.errno)
        time.sleep(REST_S)
    moved = {name: value - machine.counters_at_start.get(name, 0) for name, value in counters().items()}
    return {"results": results, "counters": moved, "sysctls": found, "error": None}


def start(program):
    """Runs the program in a child; the pipe it answers through."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            answer = run(program)
        except BaseException:
            answer = {"results": [], "counters": {}, "sysctls": {}, "error": traceback.format_exc()}
        with os.fdopen(write, "w") as out:
            json.dump(answer, out)
        os._exit(0)
    os.close(write)
    return os.fdopen(read)


def waits(program):
    return any(call in ("wait", "until") for call, *_ in program)


if __name__ == "__main__":
    programs = json.load(sys.stdin)
    answers = {name: json.load(start(program)) for name, program in programs.items() if not waits(program)}
    pipes = {name: start(program) for name, program in programs.items() if waits(program)}
    json.dump(answers | {name: json.load(pipe) for name, pipe in pipes.items()}, sys.stdout)
