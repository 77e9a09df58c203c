"""As much of the PostgreSQL protocol as the idle clients and the slow reader need. Trust only."""

import socket
import struct
import time


class Refused(Exception):
    """The peer answered with an error, or hung up."""


class Client:
    """One connection, logged in."""

    def __init__(self, port, database, user="postgres", timeout=10, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(("127.0.0.1", port))
            body = struct.pack("!i", 196608) + f"user\0{user}\0database\0{database}\0\0".encode()
            self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
            self.drain()
        except BaseException:
            self.socket.close()
            raise

    def send(self, sql):
        """Sends a simple query; `drain` reads the answer."""
        body = sql.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!i", len(body) + 4) + body)

    def query(self, sql):
        """Runs a simple query and gives the first column of the first row, as text."""
        self.send(sql)
        return self.drain()

    def drain(self, bytes_per_second=None):
        """Reads up to ReadyForQuery, no faster than it is told to. Bodies are skipped, not kept."""
        self.received, self.rate, self.began = 0, bytes_per_second, time.monotonic()
        value, data = None, b""
        while True:
            while len(data) < 5:
                data += self._receive()
            tag, length = data[0:1], struct.unpack("!i", data[1:5])[0] + 1
            keep = length if length < 65536 else 5
            while len(data) < keep:
                data += self._receive()
            body, left = data[5:min(length, len(data))], length - len(data)
            data = data[length:]
            while left > 0:
                more = self._receive()
                data, left = more[left:] if left < len(more) else b"", left - len(more)
            if tag == b"E":
                raise Refused(body.replace(b"\0", b" ").decode(errors="replace"))
            if tag == b"D" and value is None and len(body) >= 6:
                size = struct.unpack("!i", body[2:6])[0]
                value = body[6:6 + max(size, 0)].decode(errors="replace")
            if tag == b"Z":
                return value

    def _receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise Refused("the peer closed the connection")
        self.received += len(data)
        if self.rate:
            ahead = self.received / self.rate - (time.monotonic() - self.began)
            if ahead > 0.01:
                time.sleep(ahead)
        return data

    def close(self):
        self.socket.close()
