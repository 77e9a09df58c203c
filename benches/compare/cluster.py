"""A primary and streaming replicas in a temporary folder."""

import glob
import os
import shutil
import signal
import socket
import time

import wire

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = {connections}
superuser_reserved_connections = 3
shared_buffers = 256MB
fsync = {durable}
full_page_writes = {durable}
autovacuum = off
checkpoint_timeout = 1h
max_wal_size = 8GB
wal_level = replica
max_wal_senders = 10
hot_standby = on
logging_collector = off
log_min_messages = error
"""


def bin_dir():
    """The newest PostgreSQL of Debian's packages, else the one on the path."""
    found = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    newest = max(found, key=lambda path: int(path.split("/")[4]), default=shutil.which("postgres"))
    if not newest:
        raise RuntimeError("no PostgreSQL server programs found in /usr/lib/postgresql/*/bin or on the path")
    return os.path.dirname(newest)


def free_port():
    """A port that was free a moment ago. Below the kernel's own range, so that no outgoing connection takes it."""
    for _ in range(1000):
        port = 20000 + int.from_bytes(os.urandom(2), "big") % 10000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def wait_for(port, database, process, patience=20):
    """Waits until a query is answered; gives None, or why there is no answer."""
    deadline, reason = time.monotonic() + patience, "no answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"it ended with {process.returncode}"
        try:
            client = wire.Client(port, database, timeout=5)
            try:
                client.query("SELECT 1")
            finally:
                client.close()
            return None
        except (OSError, wire.Refused) as error:
            reason = str(error)
            time.sleep(0.05)
    return f"{reason} within {patience} s"


class Cluster:
    """The servers. The first is the primary."""

    def __init__(self, children, folder, connections, scale, replicas=2, durable=False):
        self.children, self.folder, self.bin = children, folder, bin_dir()
        self.connections, self.scale, self.replicas, self.durable = connections, scale, replicas, durable
        self.ports, self.processes = [], []

    def program(self, name):
        return os.path.join(self.bin, name)

    def start(self):
        """Makes the primary, fills it with pgbench's tables (a scale of 0: with nothing), and copies it."""
        data = os.path.join(self.folder, "primary")
        self.children.must([self.program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"])
        with open(os.path.join(data, "postgresql.conf"), "a") as file:
            file.write(SETTINGS.format(connections=self.connections, durable="on" if self.durable else "off"))
        primary = self._serve(data)
        if self.scale:
            fill = [self.program("pgbench"), "-i", "-q", "-s", str(self.scale), "-h", "127.0.0.1", "-p", str(primary)]
            self.children.must(fill + ["-U", "postgres", "postgres"], timeout=600)
        for number in range(1, self.replicas + 1):
            data = os.path.join(self.folder, f"replica{number}")
            copy = [self.program("pg_basebackup"), "-D", data, "-R", "-c", "fast", "-X", "stream"]
            self.children.must(copy + ["-h", "127.0.0.1", "-p", str(primary), "-U", "postgres"], timeout=600)
            self._serve(data)

    def _serve(self, data):
        port = free_port()
        log = data + ".log"
        process = self.children.spawn(
            [self.program("postgres"), "-D", data, "-p", str(port)], log=log, stop=signal.SIGINT
        )
        problem = wait_for(port, "postgres", process, patience=60)
        if problem:
            raise RuntimeError(f"PostgreSQL did not start: {problem}\n{open(log).read()[-2000:]}")
        self.ports.append(port)
        self.processes.append(process)
        return port

    def version(self):
        client = wire.Client(self.ports[0], "postgres")
        try:
            return client.query("SHOW server_version")
        finally:
            client.close()
