"""Sockets of this machine's Linux kernel under remote control; `linux-sockets.ts` is the other end.

stdin: a line {"id", "call", "args", "bytes"} and so many bytes; stdout: a line {"id", "value" or "errno", "bytes"} and so
many bytes. Sockets never block: a call that would waits for epoll and is answered later, in whatever order. A socket is
a number. Closing one fails what waits on it with EBADF, as Go's netpoll does.
"""

import collections, errno, json, os, resource, select, socket, struct, sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "differential"))
from kernel import counters

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21
TCP_SEND_QUEUE, TCP_REPAIR_OFF_NO_WP = 2, -1
STDIN, STDOUT = 0, 1
CHUNK = 1 << 16


def answer(id, value=None, data=b"", fault=None):
    head = {"id": id, "bytes": len(data)} | ({"errno": errno.errorcode[fault]} if fault else {"value": value})
    left = memoryview(json.dumps(head).encode() + b"\n" + data)
    while left:
        left = left[os.write(STDOUT, left) :]


class Waiting:
    """A call that waits: `attempt` answers, or raises BlockingIOError."""

    def __init__(self, id, attempt):
        self.id, self.attempt = id, attempt


class File:
    """One socket, and who waits to read from and to write to it, oldest first."""

    def __init__(self, sock):
        self.sock = sock
        sock.setblocking(False)
        self.waiting = {select.EPOLLIN: collections.deque(), select.EPOLLOUT: collections.deque()}
        self.events = 0

    def watch(self):
        events = sum(event for event, queue in self.waiting.items() if queue)
        if events == self.events:
            return
        if self.events == 0:
            poller.register(self.sock, events)
            watched[self.sock.fileno()] = self
        elif events == 0:
            poller.unregister(self.sock)
            del watched[self.sock.fileno()]
        else:
            poller.modify(self.sock, events)
        self.events = events

    def call(self, event, id, attempt):
        self.waiting[event].append(Waiting(id, attempt))
        if len(self.waiting[event]) == 1:
            self.go_on(event)

    def go_on(self, event):
        queue = self.waiting[event]
        while queue:
            try:
                queue[0].attempt()
            except BlockingIOError:
                break
            except OSError as error:
                answer(queue[0].id, fault=error.errno)
            queue.popleft()
        self.watch()

    def close(self):
        left = [waiting for queue in self.waiting.values() for waiting in queue]
        for queue in self.waiting.values():
            queue.clear()
        self.watch()
        self.sock.close()
        for waiting in left:
            answer(waiting.id, fault=errno.EBADF)


class Machine:
    def __init__(self):
        self.files = {}
        self.made = 0

    def add(self, sock):
        self.made += 1
        self.files[self.made] = File(sock)
        return self.made

    def by(self, file):
        if file not in self.files:
            raise OSError(errno.EBADF, "closed")
        return self.files[file]

    def listen(self, id, _data, port):
        sock = socket.socket()
        try:
            sock.bind(("", port))
            sock.listen(4096)
        except OSError:
            sock.close()
            raise
        answer(id, self.add(sock))

    def accept(self, id, _data, file):
        listener = self.by(file)
        listener.call(select.EPOLLIN, id, lambda: answer(id, self.add(listener.sock.accept()[0])))

    def connect(self, id, _data, address, port, isn):
        """`isn`: the sequence number of its SYN; the kernel chooses without."""
        sock = socket.socket()
        if isn is not None:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
            sock.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, struct.pack("I", isn))
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP)
        file = self.add(sock)
        started = False

        def attempt():
            nonlocal started
            if not started:
                started = True
                sock.connect((address, port))
            fault = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if fault:
                raise OSError(fault, "connect")
            answer(id, file)

        self.files[file].call(select.EPOLLOUT, id, attempt)

    def read(self, id, _data, file, most):
        reader = self.by(file)
        reader.call(select.EPOLLIN, id, lambda: answer(id, data=reader.sock.recv(most)))

    def write(self, id, data, file):
        writer, left = self.by(file), memoryview(data)

        def attempt():
            nonlocal left
            while left:
                left = left[writer.sock.send(left) :]
            answer(id)

        writer.call(select.EPOLLOUT, id, attempt)

    def shutdown(self, id, _data, file):
        self.by(file).sock.shutdown(socket.SHUT_WR)
        answer(id)

    def close(self, id, _data, file):
        self.by(file)
        self.files.pop(file).close()
        answer(id)

    def abort(self, id, _data, file):
        """RST."""
        self.by(file).sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close(id, _data, file)

    def counters(self, id, _data):
        answer(id, counters())


def serve(machine):
    pending = bytearray()
    while True:
        for fd, events in poller.poll():
            if fd == STDIN:
                more = os.read(STDIN, CHUNK)
                if not more:
                    return
                pending += more
                take(machine, pending)
                continue
            for event in (select.EPOLLIN, select.EPOLLOUT):
                # Errors and hang-ups are told by the calls themselves.
                if fd in watched and events & (event | select.EPOLLERR | select.EPOLLHUP):
                    watched[fd].go_on(event)


def take(machine, pending):
    """Makes the calls that are wholly there."""
    while (end := pending.find(b"\n")) >= 0:
        head = json.loads(pending[:end])
        after = end + 1 + head["bytes"]
        if len(pending) < after:
            return
        data = bytes(pending[end + 1 : after])
        del pending[:after]
        try:
            getattr(machine, head["call"])(head["id"], data, *head["args"])
        except OSError as error:
            answer(head["id"], fault=error.errno)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 10_000), hard))
    poller, watched = select.epoll(), {}
    poller.register(STDIN, select.EPOLLIN)
    serve(Machine())
