# SPDX-License-Identifier: Apache-2.0
"""chaos.py - a TCP proxy that spoils connections, raw HTTP bytes, and a Redis that lies.

    with Proxy(redis.port) as p:
        p.delay = 0.5           # seconds before bytes go on, both ways
        p.rate = 1000           # bytes per second
        p.cut_after = 40        # bytes from the server, then both sides are closed
        p.reset_after = 40      # the same with RST
        p.corrupt = True        # one bit of each piece from the server
        p.black_hole = True     # takes connections and bytes, gives nothing
        p.calm()                # none of it
Settings hold for what passes from now on.
"""
import contextlib
import random
import socket
import struct
import threading
import time


class Listener:
    """A port of its own; each connection is given to take(), which a subclass has, and which keeps
    in sockets what the end shall close."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets, self.lock = set(), threading.Lock()
        self.spawn(self.accept)

    def spawn(self, target, *args):
        threading.Thread(target=target, args=args, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.take(client)

    def drop(self, s):
        with self.lock:
            self.sockets.discard(s)
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_RDWR)
        s.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for s in list(self.sockets):
            self.drop(s)


class Proxy(Listener):
    def __init__(self, target_port):
        self.target_port = target_port
        self.rng = random.Random(5)
        self.accepted = 0
        self.calm()
        super().__init__()

    def calm(self):
        self.delay, self.rate, self.cut_after, self.reset_after = 0, None, None, None
        self.corrupt = self.black_hole = self.half_close = False

    def take(self, client):
        self.accepted += 1
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self.lock:
            self.sockets |= {client, server}
        self.spawn(self.pump, client, server, False)
        self.spawn(self.pump, server, client, True)

    def pump(self, source, sink, from_server):
        passed = 0
        while True:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            if self.black_hole:
                continue
            if self.delay:
                time.sleep(self.delay)
            if self.rate:
                time.sleep(len(data) / self.rate)
            limit = self.reset_after if self.reset_after is not None else self.cut_after
            if from_server and limit is not None and passed + len(data) > limit:
                with contextlib.suppress(OSError):
                    sink.sendall(data[:limit - passed])
                if self.reset_after is not None:
                    sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                break
            if from_server and self.corrupt:
                data = bytearray(data)
                data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
            try:
                sink.sendall(data)
            except OSError:
                break
            passed += len(data)
            if from_server and self.half_close:
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
        self.drop(source)
        self.drop(sink)


def reset(connection):
    """Ends a connection with RST instead of FIN."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.file.close()
    connection.socket.close()


class LyingRedis(Listener):
    """Knows MGET and SET.  mget(keys, values) may be replaced: it gives the bytes of the reply, or
    raises OSError to close the connection.  Values that were never set are None."""

    def __init__(self):
        self.values, self.asked = {}, 0
        self.mget = self.honest
        super().__init__()

    @property
    def url(self):
        return "redis://127.0.0.1:%d" % self.port

    @staticmethod
    def honest(keys, values):
        return b"*%d\r\n" % len(keys) + b"".join(
            b"$-1\r\n" if v is None else b"$%d\r\n%s\r\n" % (len(v), v) for v in values)

    def take(self, client):
        with self.lock:
            self.sockets.add(client)
        self.spawn(self.serve, client)

    def serve(self, s):
        with contextlib.suppress(OSError, ValueError), s, s.makefile("rb") as f:
            while True:
                line = f.readline()
                if not line:
                    break
                words = []
                for _ in range(int(line[1:])):
                    words.append(f.read(int(f.readline()[1:]) + 2)[:-2])
                s.sendall(self.answer(words))
        self.drop(s)

    def answer(self, words):
        if words[0] == b"SET":
            self.values[words[1]] = words[2]
            return b"+OK\r\n"
        self.asked += 1
        return self.mget(words[1:], [self.values.get(k) for k in words[1:]])
