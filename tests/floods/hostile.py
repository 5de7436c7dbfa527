"""Hostile clients of a real link, and an honest one: run in the network namespace beside `sojourn serve --tap`.

    hostile.py WHAT SERVER [ARGUMENTS]        prints one line of JSON

Frames of foreign senders go out by a packet socket; all else are the kernel's own connections.
"""
import json
import resource
import socket
import struct
import sys
import time

PORT = 80
DEVICE = "tap0"
# A device's queue holds 1,000 frames: bursts well below it, so that what is measured is not the queue.
BURST = 64
PAUSE_S = 0.003


def checksum(data):
    if len(data) & 1:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(source, target, protocol, payload, ident=0, fragment=0):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, fragment, 64, protocol, 0, source, target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def tcp(source, target, from_port, to_port, seq, flags):
    head = struct.pack("!HHIIBBHHH", from_port, to_port, seq, 0, 0x50, flags, 64240, 0, 0)
    pseudo = source + target + struct.pack("!BBH", 0, 6, len(head))
    return head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]


def spoofed(n):
    return struct.pack("!I", 0x64400000 + n)


def mac_of(server):
    """As the kernel's neighbour table knows it, once something was sent there."""
    socket.create_connection((server, PORT), 5).close()
    with open("/proc/net/arp") as table:
        for line in table:
            fields = line.split()
            if fields[0] == server:
                return bytes.fromhex(fields[3].replace(":", ""))
    raise SystemExit("no neighbour " + server)


def send_frames(server, packets):
    """Sends IP packets in Ethernet frames; how many the device took."""
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    link.bind((DEVICE, 0))
    head = mac_of(server) + link.getsockname()[4] + b"\x08\x00"
    sent = 0
    for one in packets:
        try:
            link.send(head + one)
            sent += 1
        except OSError:
            pass
        if sent % BURST == 0:
            time.sleep(PAUSE_S)
    return sent


def honest(server, seconds):
    """A request on a new connection every 10 ms at most."""
    took, failures = [], []
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        start = time.monotonic()
        try:
            with socket.create_connection((server, PORT), 20) as conn:
                conn.sendall(b"GET /hello HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n")
                answer = b""
                while piece := conn.recv(4096):
                    answer += piece
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise OSError("answer: %r" % answer[:40])
            took.append((time.monotonic() - start) * 1000)
        except OSError as error:
            failures.append(str(error))
        time.sleep(0.01)
    took.sort()
    at = lambda share: took[min(len(took) - 1, int(len(took) * share))] if took else -1
    return {"asked": len(took) + len(failures), "failures": failures[:5], "p50": at(0.5), "p99": at(0.99)}


def syn_flood(server, count):
    target = socket.inet_aton(server)
    frames = (packet(spoofed(n), target, 6, tcp(spoofed(n), target, 1024 + n % 60000, PORT, n, 2)) for n in range(int(count)))
    return {"sent": send_frames(server, frames)}


def syn_scan(server, count):
    """Of ports 1000 and up, from one address that is not here: nobody answers the answers."""
    target, source = socket.inet_aton(server), spoofed(7)
    frames = (packet(source, target, 6, tcp(source, target, 5000, 1000 + n, n, 2)) for n in range(int(count)))
    return {"sent": send_frames(server, frames)}


def overlaps(server, count):
    """Pairs of fragments that overlap by eight bytes."""
    target = socket.inet_aton(server)

    def pieces():
        for n in range(int(count)):
            ident = n & 0xFFFF
            yield packet(spoofed(n), target, 17, bytes(1480), ident, 0x2000)
            yield packet(spoofed(n), target, 17, bytes(1000), ident, 0x2000 | (1472 >> 3))

    return {"sent": send_frames(server, pieces())}


def holes(server, count):
    """First fragments only."""
    target = socket.inet_aton(server)
    frames = (packet(spoofed(n), target, 17, bytes(1480), n & 0xFFFF, 0x2000) for n in range(int(count)))
    return {"sent": send_frames(server, frames)}


def connect_all(server, count, receive_buffer=0):
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(count) + 64, max(int(count) + 64, resource.getrlimit(1)[1])))
    conns = []
    for _ in range(int(count)):
        conn = socket.socket()
        if receive_buffer:
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        conn.settimeout(20)
        conn.connect((server, PORT))
        conns.append(conn)
    return conns


def ended(conns):
    """How many the server has ended, and how many of these with a 408."""
    over = refused = 0
    for conn in conns:
        conn.setblocking(False)
        try:
            text = conn.recv(4096)
            over += 1
            refused += text.startswith(b"HTTP/1.1 408 ")
        except BlockingIOError:
            pass
        except OSError:
            over += 1
    return {"over": over, "refused": refused}


def idle(server, count, seconds):
    conns = connect_all(server, count)
    time.sleep(float(seconds))
    return {"connected": len(conns), **ended(conns)}


def slow_heads(server, count, seconds):
    conns = connect_all(server, count)
    head = b"GET /hello HTTP/1.1\r\nHost: server\r\nX-Slow: " + b"x" * 1000
    for n in range(int(seconds)):
        for conn in conns:
            try:
                conn.send(head[n : n + 1])
            except OSError:
                pass
        time.sleep(1)
    return {"connected": len(conns), **ended(conns)}


def slow_reads(server, count, seconds):
    """Ask for a lot through a small window, and read none of it."""
    conns = connect_all(server, count, 4096)
    for conn in conns:
        conn.sendall(b"GET /bytes/100000000 HTTP/1.1\r\nHost: server\r\n\r\n")
    time.sleep(float(seconds))
    alive = sum(bool(conn.recv(1)) for conn in conns)
    return {"connected": len(conns), "alive": alive}


if __name__ == "__main__":
    what, arguments = sys.argv[1], sys.argv[2:]
    print(json.dumps(globals()[what](*arguments)))
