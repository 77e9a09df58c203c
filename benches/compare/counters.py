"""Counters: votes for one row and for a thousand, sent to PostgreSQL directly and merged by pgweir. See ../README.md."""

import functools
import os
import statistics
import time
import urllib.request

import proc
import report
import targets
import wire
from cluster import free_port
from measure import Bench, Cell

ONE, MANY = "one row", "1,000 rows"
ROWS = {ONE: 1, MANY: 1000}

# What is promised, as ratios to direct connections in the same round.
LEAST_TIMES_DIRECT, AT_CLIENTS = 20, 64
LEAST_TIMES_COMMIT = 2
BUSY = (64, 500)

VOTE = """\
\\set id random(1, {rows})
UPDATE {table} SET votes = votes + 1 WHERE id = :id;
"""

# pgbench's clock runs while its clients connect: one second more for so many of them.
CONNECTS_A_SECOND = 125

# So much of one core, for so many seconds, is a machine that others leave alone.
QUIET, GLANCE = 0.2, 0.5

# Increments that were answered before their commit are in the table after this many seconds, at most.
PATIENCE = 10


def table(name, script):
    """Each target has tables of its own, so that the server's counters tell whose row updates they count."""
    return f"{name}_{'one' if script == ONE else 'many'}"


class Merging(targets.Pgweir):
    """pgweir before the primary, with a counter rule of one durability."""

    # Where statements went is no question here.
    tells = False

    def __init__(self, durability, context):
        super().__init__(context)
        self.name = self.durability = durability
        self.metrics_port = free_port()

    def servers(self):
        return self.context.cluster.ports[:1]

    def metrics(self):
        return f"127.0.0.1:{self.metrics_port}"

    def rules(self):
        # `commit` is what a rule without the key has.
        durability = "" if self.durability == "commit" else f'durability = "{self.durability}"\n'
        # Beside the configuration.
        journal = '[journal]\nfolder = "journal"\n' if self.durability == "journal" else ""
        return journal + "\n".join(
            f'[[databases."*".counters]]\ntable = "{table(self.name, script)}"\nkey = ["id"]\ncolumns = ["votes"]\n{durability}'
            for script in ROWS
        )

    def counted(self, script):
        """What pgweir has counted for that table, by the name of the metric."""
        with urllib.request.urlopen(f"http://{self.metrics()}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        label, found = f'table="{table(self.name, script)}"', {}
        for line in lines:
            if line.startswith("pgweir_counter_") and label in line:
                name = line[len("pgweir_counter_"):line.index("{")]
                found[name] = found.get(name, 0) + float(line.rsplit(" ", 1)[1])
        return {key: int(found.get(f"{key}_total", 0)) for key in ("increments", "rows", "flushes", "passed", "failures")}


class Votes(Bench):
    """Runs pgbench with votes, and holds what it was told against the table."""

    # All of them: few clients of a hot row do few transactions in the time of a measurement.
    sampled = 1.0

    def prepare(self):
        self.files = {}

    def script(self, cell, instance):
        name = table(instance.name, cell.script)
        if name not in self.files:
            self.files[name] = os.path.join(self.context.folder, f"{name}.sql")
            with open(self.files[name], "w") as file:
                file.write(VOTE.format(rows=ROWS[cell.script], table=name))
        return ["-f", self.files[name]]

    def ask(self, sql):
        client = wire.Client(self.context.cluster.ports[0], "postgres", timeout=60)
        try:
            return client.query(sql)
        finally:
            client.close()

    def make_tables(self, names):
        for name in names:
            for script, rows in ROWS.items():
                made = table(name, script)
                self.ask(f"CREATE TABLE {made} (id int PRIMARY KEY, votes bigint NOT NULL DEFAULT 0)")
                self.ask(f"INSERT INTO {made} (id) SELECT generate_series(1, {rows})")

    def votes(self, name, script, at_least=None):
        """The sum of the votes; waits for those that are on their way to the table."""
        deadline = time.monotonic() + PATIENCE
        while True:
            votes = int(self.ask(f"SELECT sum(votes) FROM {table(name, script)}"))
            if at_least is None or votes >= at_least or time.monotonic() > deadline:
                return votes
            time.sleep(0.05)

    def vote(self, target, cell, seconds):
        """One measurement, with what became of its votes."""
        instance = target.instance(targets.POOLED)
        # Row versions that an earlier measurement has left behind are not this one's.
        self.ask(f"VACUUM ANALYZE {table(target.name, cell.script)}")
        merges = isinstance(target, Merging)
        before, counted = self.votes(target.name, cell.script), target.counted(cell.script) if merges else {}
        result = self.run(instance, cell, seconds + cell.clients // CONNECTS_A_SECOND)
        acknowledged = int(result.get("transactions", 0))
        result["acknowledged"] = acknowledged
        result["in_table"] = self.votes(target.name, cell.script, before + acknowledged) - before
        if merges:
            now = target.counted(cell.script)
            result["counted"] = {key: now[key] - counted[key] for key in now}
        return result

    def row_updates(self, name, script, at_least):
        """The server's own count. It may come late: a backend reports when it ends, at the latest."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = int(self.ask(f"SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = '{table(name, script)}'") or 0)
            if found >= at_least or time.monotonic() > deadline:
                return found
            time.sleep(0.05)


def kinds(options):
    """Makers of the targets."""
    return [targets.Direct, *(functools.partial(Merging, name) for name in options.durability)]


def measure(context, found, options, say):
    """All rounds of all cells; gives what to write down, and whether the numbers are what they must be."""
    bench = Votes(context)
    cells = [Cell(script, mode, clients) for script in ROWS for mode in options.modes for clients in options.clients]
    seconds = sum(options.seconds + 1 + cell.clients // CONNECTS_A_SECOND for cell in cells) * len(found) * options.rounds
    say(f"{len(cells) * len(found)} cells, about {seconds / 60:.1f} min")
    bench.make_tables([target.name for target in found])
    for target in found:
        for script in ROWS:
            bench.warm(target.instance(targets.POOLED), Cell(script, "simple", 16))
    results = {(cell, target.name): [] for cell in cells for target in found}
    for turn in range(options.rounds):
        for nth, cell in enumerate(cells):
            first = (turn + nth) % len(found)
            for target in found[first:] + found[:first]:
                wait_for_quiet(options.patience)
                result = bench.vote(target, cell, options.seconds)
                results[cell, target.name].append(result)
                told = f"{result['tps']:.0f} a second" if "tps" in result else f"FAILED: {result.get('failed')}"
                say(f"  round {turn + 1}/{options.rounds}  {str(cell):32} {target.name:8} {told}")
    told = tell(cells, found, results, say)
    checks = present(found, options) + exact(results) + updates(bench, found) + deadlocks(bench)
    bars = speed(cells, found, results)
    say("\nWhat must hold:")
    for holds, text in checks:
        say(f"  {'holds ' if holds else 'BROKEN'}  {text}")
    say("\nWhat is aimed at:")
    for holds, text in bars:
        say(f"  {'pass' if holds else 'FAIL'}  {text}")
    words = ("holds", "what")
    content = {"cells": told, "must": [dict(zip(words, one)) for one in checks], "aims": [dict(zip(words, one)) for one in bars]}
    return content, all(holds for holds, _ in checks)


def wait_for_quiet(patience):
    """Nothing of this run works between two measurements: what the processors do then is others'."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = proc.machine_cpu()
        time.sleep(GLANCE)
        if proc.machine_cpu() - before <= QUIET * GLANCE:
            return


def ratio(results, cell, name, key, base="direct"):
    """The median over rounds; None where one of them was not measured."""
    numbers = report.ratios(results.get((cell, name), []), results.get((cell, base)), key)
    return statistics.median(numbers) if numbers else None


def tell(cells, found, results, say):
    """Prints the table and gives its content."""
    def middle(rounds, key):
        numbers = report.values(rounds, key)
        return statistics.median(numbers) if numbers else None

    def form(number, digits):
        return "-" if number is None else f"{number:,.{digits}f}"

    told, rows = [], []
    for cell in cells:
        for target in found:
            rounds = results[cell, target.name]
            counted = [result["counted"] for result in rounds if "counted" in result]
            updates = sum(one["rows"] for one in counted)
            merged = sum(one["increments"] for one in counted) / updates if updates else None
            numbers = {key: middle(rounds, key) for key in ("tps", "p50_ms", "p99_ms", "proxy_peak_rss_kb", "foreign_cpu")}
            times = {key: ratio(results, cell, target.name, key) for key in ("tps", "p50_ms", "p99_ms")}
            about = {"rows": cell.script, "mode": cell.mode, "clients": cell.clients, "target": target.name}
            told.append({**about, **numbers, "to_direct": times, "increments_per_row_update": merged, "raw": rounds})
            rows.append({
                **about, "tps": form(numbers["tps"], 0), "tps_": form(times["tps"], 2),
                "p50": form(numbers["p50_ms"], 2), "p50_": form(times["p50_ms"], 2),
                "p99": form(numbers["p99_ms"], 2), "p99_": form(times["p99_ms"], 2), "merged": form(merged, 1),
                "others": form(numbers["foreign_cpu"], 2),
            })
    columns = (("rows", "rows"), ("mode", "mode"), ("clients", "clients"), ("", "target"), ("votes/s", "tps"), ("/direct", "tps_"),
               ("p50 ms", "p50"), ("/direct", "p50_"), ("p99 ms", "p99"), ("/direct", "p99_"), ("votes/row update", "merged"), ("others' cores", "others"))
    say("\n" + report.table("Votes. In each cell all targets ran one after the other; others' cores: what other programs took meanwhile.",
                            columns, rows))
    return told


def present(found, options):
    missing = {"direct", *options.durability} - {target.name for target in found}
    return [(False, f"{name} was not measured") for name in sorted(missing)]


def exact(results):
    """What was acknowledged is in the table, and nothing else; a client that failed may have had one more carried out."""
    wrong, failed, votes = [], [], 0
    for (cell, name), rounds in results.items():
        for result in rounds:
            more = result["in_table"] - result["acknowledged"]
            votes += result["acknowledged"]
            if not 0 <= more <= (cell.clients if "failed" in result else 0):
                wrong.append(f"{name}, {cell}: {result['in_table']:,} in the table, {result['acknowledged']:,} acknowledged")
            if "failed" in result:
                failed.append(f"{name}, {cell}: {result['failed']}")
    return [
        (not wrong, f"{votes:,} acknowledged votes are in the tables, each once" + "".join(f"; {one}" for one in wrong)),
        (not failed, f"{len(failed)} measurements failed" + "".join(f"; {one}" for one in failed)),
    ]


def updates(bench, found):
    """Row updates as the server counts them, of the whole run; pgweir is stopped for it, for then no backend owes a report."""
    told = []
    for target in found:
        if not isinstance(target, Merging):
            continue
        counted = target.counted(ONE)
        votes = bench.votes(target.name, ONE)
        bench.context.children.stop(target.instance(targets.POOLED).process)
        there = bench.row_updates(target.name, ONE, counted["rows"])
        alone = votes - counted["increments"]
        holds = counted["rows"] <= counted["flushes"] and there <= counted["flushes"] + alone
        told.append((holds, f"{target.name}, one row: at most one row update for each flush: {votes:,} votes ({alone:,} of them by "
                            f"themselves), {counted['flushes']:,} flushes, {there:,} row updates by the server"))
    return told


def deadlocks(bench):
    found = int(bench.ask("SELECT sum(deadlocks) FROM pg_stat_database"))
    return [(found == 0, f"{found} deadlocks")]


def speed(cells, found, results):
    """What the ratios should be; a cell that was not measured has no part in it."""
    def bar(text, chosen, key, base, good):
        numbers = [(cell, ratio(results, cell, target.name, key, base)) for cell in chosen]
        numbers = [(cell, number) for cell, number in numbers if number is not None]
        if numbers:
            each = ", ".join(f"{cell.mode} {cell.clients}: {number:.2f}" for cell, number in numbers)
            bars.append((all(good(number) for _, number in numbers), f"{target.name}, {text}: {each}"))

    bars = []
    for target in found:
        if not isinstance(target, Merging):
            continue
        hot = [cell for cell in cells if cell.script == ONE and cell.clients in BUSY]
        hottest = [cell for cell in hot if cell.clients == AT_CLIENTS]
        bar(f"one row, votes/s, at least {LEAST_TIMES_DIRECT} times direct", hottest, "tps", "direct", lambda n: n >= LEAST_TIMES_DIRECT)
        bar("one row, p50 below direct's", hot, "p50_ms", "direct", lambda n: n < 1)
        bar("1,000 rows, votes/s, not below direct's", [cell for cell in cells if cell.script == MANY], "tps", "direct", lambda n: n >= 1)
        if target.durability != "commit":
            bar(f"one row, votes/s, at least {LEAST_TIMES_COMMIT} times commit", hottest, "tps", "commit", lambda n: n >= LEAST_TIMES_COMMIT)
    return bars
