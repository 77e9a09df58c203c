"""One cell: pgbench against one target, with what it cost the proxy, the servers and the rest of the machine."""

import glob
import os
import re
import resource
import signal
import statistics
import time

import proc

UPDATE = """\
\\set aid random(1, {rows})
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
"""

# The share of transactions that pgbench logs one by one, for the percentiles.
SAMPLED = 0.1


class Cell:
    """What is asked: a script, a protocol mode, and a number of clients."""

    def __init__(self, script, mode, clients):
        self.script, self.mode, self.clients = script, mode, clients

    def __str__(self):
        return f"{self.script}, {self.mode}, {self.clients} client{'s' * (self.clients > 1)}"


class Bench:
    """Runs pgbench."""

    sampled = SAMPLED

    def __init__(self, context):
        self.context = context
        self.prepare()

    def prepare(self):
        """Writes the files that `script` names."""
        self.update = os.path.join(self.context.folder, "update.sql")
        with open(self.update, "w") as file:
            file.write(UPDATE.format(rows=100_000 * self.context.cluster.scale))

    def script(self, cell, _instance):
        """What pgbench runs, as its arguments."""
        return ["-S"] if cell.script == "select" else ["-b", "select-only@80", "-f", f"{self.update}@20"]

    def command(self, instance, cell, seconds):
        threads = min(cell.clients, os.cpu_count() or 1)
        return [
            self.context.cluster.program("pgbench"), "-n", "-h", "127.0.0.1", "-p", str(instance.port), "-U", "postgres",
            "-M", cell.mode, "-c", str(cell.clients), "-j", str(threads), "-T", str(seconds),
            *self.script(cell, instance),
        ]

    def warm(self, instance, cell):
        """Opens the server connections of a pool and fills its caches."""
        return self._pgbench(self.command(instance, cell, 1) + ["postgres"], 1)

    def run(self, instance, cell, seconds):
        """One measurement. `failed` holds pgbench's complaint, if it had one."""
        log = os.path.join(self.context.folder, "pgbench-log")
        command = self.command(instance, cell, seconds)
        command += ["-l", f"--log-prefix={log}", f"--sampling-rate={self.sampled}", "postgres"]
        servers = [process.pid for process in self.context.cluster.processes]
        proxy = [instance.pid] if instance.proxy else []
        for pid in proxy:
            proc.forget_peak(pid)
        before = [total(servers), total(proxy), own_children(), proc.machine_cpu()]
        reads, began = self.reads(instance), time.monotonic()
        result = self._pgbench(command, seconds)
        took = time.monotonic() - began
        after = [total(servers), total(proxy), own_children(), proc.machine_cpu()]
        server, through, client, machine = [[b - a for a, b in zip(*pair)] if isinstance(pair[0], tuple)
                                            else pair[1] - pair[0] for pair in zip(before, after)]
        result.update(percentiles(log))
        went = [now - then for now, then in zip(self.reads(instance), reads)]
        if sum(went):
            result["reads_on_replicas"] = went[1] / sum(went)
        queries = result.get("transactions", 0)
        result["foreign_cpu"] = round(max(0.0, machine - client - sum(server) - sum(through)) / took, 3)
        if queries:
            result["server_cpu_per_1000"] = 1000 * sum(server) / queries
            if proxy:
                result["proxy_user_per_1000"] = 1000 * through[0] / queries
                result["proxy_system_per_1000"] = 1000 * through[1] / queries
                result["proxy_peak_rss_kb"] = proc.peak_rss(instance.pid)
        return result

    def reads(self, instance):
        """How many reads have gone to the primary and to replicas, as the console of the proxy says."""
        if not instance.tells:
            return [0, 0]
        psql = [self.context.cluster.program("psql"), "-h", "127.0.0.1", "-p", str(instance.port), "-U", "postgres"]
        status, output = self.context.children.run(psql + ["-XAt", "-d", "pgweir", "-c", "SHOW ROUTES LIMIT 100"], as_caller=True)
        if status != 0:
            raise RuntimeError(f"the console failed:\n{output[-500:]}")
        rows = [row.split("|", 9) for row in output.splitlines()]
        rows = [row for row in rows if len(row) == 10 and row[9].lower().startswith("select")]
        return [sum(int(row[place]) for row in rows) for place in (1, 2)]

    def syscalls(self, instance, cell, strace):
        """System calls of the proxy per query, counted in a run of its own: strace slows everything down."""
        children, output = self.context.children, os.path.join(self.context.folder, "strace.txt")
        pids = [argument for pid in proc.tree(instance.pid) for argument in ("-p", str(pid))]
        tracer = children.spawn(
            [strace, "-f", "-c", "-o", output, *pids], stop=signal.SIGINT, as_caller=True,
            log=os.path.join(self.context.folder, "strace.log"),
        )
        time.sleep(0.5)
        result = self._pgbench(self.command(instance, cell, 2) + ["postgres"], 2)
        children.stop(tracer)
        with open(output) as file:
            calls = re.search(r"^100\.00\s+\S+\s+(?:\d+\s+)?(\d+)\s+(?:\d+\s+)?total$", file.read(), re.M)
        if not calls or not result.get("transactions"):
            return None
        return int(calls[1]) / result["transactions"]

    def _pgbench(self, command, seconds):
        status, output = self.context.children.run(command, timeout=seconds + 60, as_caller=True)
        result = {}
        for key, pattern in (
            ("tps", r"^tps = ([\d.]+)"),
            ("latency_ms", r"^latency average = ([\d.]+) ms"),
            ("transactions", r"^number of transactions actually processed: (\d+)"),
        ):
            found = re.search(pattern, output, re.M)
            if found:
                result[key] = float(found[1])
        errors = [line for line in output.splitlines() if "error" in line.lower() or "fatal" in line.lower()]
        if status != 0 or "tps" not in result:
            nothing = ["no transaction in its time"] if status == 0 else output.strip().splitlines() or ["no output"]
            result["failed"] = (errors or nothing)[0][:300]
        return result


def total(roots):
    """User and system seconds of several trees."""
    seconds = [proc.cpu(root) for root in roots]
    return sum(user for user, _ in seconds), sum(system for _, system in seconds)


def own_children():
    """CPU seconds of the children of this script that have ended: of pgbench, between two of these."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def percentiles(prefix):
    """Reads and removes pgbench's logs of single transactions: time in microseconds is their third column."""
    times = []
    for path in glob.glob(prefix + ".*"):
        with open(path) as file:
            times.extend(int(line.split()[2]) for line in file if line.count(" ") >= 2)
        os.remove(path)
    if len(times) < 100:
        return {}
    cuts = statistics.quantiles(times, n=100)
    return {"p50_ms": cuts[49] / 1000, "p99_ms": cuts[98] / 1000}
