"""Two measurements apart from pgbench: what idle clients hold, and what a slow reader of a large result makes pile up."""

import statistics
import time

import proc
import wire
from targets import POOLED

# What a target without pooling is given: each client is a server process.
UNPOOLED_CLIENTS = 200
GIGABYTE = 1 << 30

LARGE = {
    "rows of 10 kB": "SELECT repeat('x', 10240) FROM generate_series(1, 104858)",
    "rows of 100 MB": "SELECT repeat('x', 104857600) FROM generate_series(1, 10)",
    "COPY": "COPY (SELECT repeat('x', 10240) FROM generate_series(1, 104858)) TO STDOUT",
}


def idle(target, count):
    """Opens idle clients; gives resident memory (shared pages divided) before and with them."""
    instance = target.instance(POOLED)
    if not target.pools:
        count = min(count, UNPOOLED_CLIENTS)
    clients, problem = [], None
    try:
        clients.append(wire.Client(instance.port, "postgres"))
        clients[0].query("SELECT 1")
        time.sleep(0.5)
        before, start = proc.pss(instance.pid), time.monotonic()
        try:
            for _ in range(count):
                clients.append(wire.Client(instance.port, "postgres"))
        except (OSError, wire.Refused) as error:
            problem = f"after {len(clients) - 1} clients: {error}"
        seconds = time.monotonic() - start
        time.sleep(1)
        after = proc.pss(instance.pid)
        opened = len(clients) - 1
        alive = time.monotonic()
        clients[-1].query("SELECT 1")
        result = {
            "clients": opened,
            "pss_before_kb": before,
            "pss_with_kb": after,
            "bytes_per_client": round(1024 * (after - before) / opened) if opened else None,
            "opened_per_second": round(opened / seconds) if seconds else None,
            "first_answer_ms": round(1000 * (time.monotonic() - alive), 2),
        }
    finally:
        for client in clients:
            client.close()
    return result | ({"failed": problem} if problem else {})


def large(target, what):
    """One client asks for a gigabyte, reads nothing for 3 seconds, then 200 MB/s; another client meanwhile asks for 1."""
    instance = target.instance(POOLED)
    client = wire.Client(instance.port, "postgres", timeout=120, receive_buffer=65536)
    try:
        client.query("SELECT 1")
        proc.forget_peak(instance.pid)
        before = proc.rss(instance.pid)
        client.send(LARGE[what])
        time.sleep(2)
        probe = neighbours(instance.port)
        time.sleep(1)
        start = time.monotonic()
        client.drain(bytes_per_second=200_000_000)
        seconds = time.monotonic() - start
        return {
            "received_mb": client.received >> 20,
            "seconds": round(seconds, 2),
            "rss_before_kb": before,
            "peak_rss_kb": proc.peak_rss(instance.pid),
            **probe,
        }
    finally:
        client.close()


def neighbours(port):
    """How long other clients wait for `SELECT 1` beside the slow reader."""
    times = []
    try:
        for _ in range(20):
            start = time.monotonic()
            client = wire.Client(port, "postgres", timeout=5)
            try:
                client.query("SELECT 1")
            finally:
                client.close()
            times.append(1000 * (time.monotonic() - start))
    except (OSError, wire.Refused) as error:
        return {"neighbour": f"failed: {error}"}
    return {"neighbour_ms": round(statistics.median(times), 2), "neighbour_max_ms": round(max(times), 2)}
