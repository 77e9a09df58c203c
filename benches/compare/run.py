"""pgweir beside direct connections, PgBouncer, Pgpool-II and HAProxy, on servers of its own. See ../README.md."""

import argparse
import json
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import counters  # noqa: E402
import extra  # noqa: E402
import report  # noqa: E402
import targets  # noqa: E402
import wire  # noqa: E402
from children import Children  # noqa: E402
from cluster import Cluster  # noqa: E402
from measure import Bench, Cell  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCALE = 10
# More than this of one core spent by others makes a cell doubtful.
FOREIGN_LIMIT = 0.1


class Context:
    """What a target may need to know of the run."""

    def __init__(self, options, children, folder):
        self.children, self.folder, self.root = children, folder, ROOT
        self.max_clients, self.idle = max(options.clients), options.idle
        self.pgweir_set = "\n".join(options.pgweir_set)
        self.build_error, self.cluster = None, None


def numbers(text):
    return [int(part) for part in text.split(",")]


def names(text):
    return text.split(",")


def among(*known):
    def parse(text):
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)} (known: {', '.join(known)})")
        return chosen
    return parse


def arguments():
    known = [target.name for target in targets.ALL]
    parser = argparse.ArgumentParser(prog="./bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about a minute: few cells, short rounds")
    parser.add_argument("--rounds", type=int, help="how often each cell is measured (3)")
    parser.add_argument("--seconds", type=int, help="how long one measurement takes (5)")
    parser.add_argument("--clients", type=numbers, help="numbers of clients (1,16,64)")
    parser.add_argument("--modes", type=among("simple", "extended", "prepared"), help="(simple,extended,prepared)")
    parser.add_argument("--scripts", type=among("select", "mix"), help="select: -S; mix: 80/20 SELECT/UPDATE (select,mix)")
    parser.add_argument("--only", type=among(*known), help=f"targets ({','.join(known)})")
    parser.add_argument("--idle", type=int, default=0, metavar="N", help="instead of pgbench: memory of N idle clients")
    parser.add_argument("--large", action="store_true", help="instead of pgbench: 1 GB to a slow reader")
    parser.add_argument("--counters", action="store_true", help="instead: votes for one row and for 1,000, with fsync, and what became of them")
    parser.add_argument("--durability", type=names, help="with --counters: durabilities of the rule (commit)")
    parser.add_argument("--patience", type=float, default=0, metavar="S",
                        help="with --counters: wait up to S seconds before each measurement for others to leave the machine alone")
    parser.add_argument("--pgweir-set", action="append", default=[], metavar="TOML", help="a top-level line for pgweir's TOML")
    parser.add_argument("--no-build", action="store_true", help="take target/release/pgweir as it is")
    parser.add_argument("--no-strace", action="store_true", help="do not count system calls")
    parser.add_argument("--json", metavar="FILE", help="write everything measured, round by round")
    parser.add_argument("--keep", action="store_true", help="keep the folder with configurations and logs")
    options = parser.parse_args()
    usual = dict(rounds=3, seconds=5, clients=[1, 16, 64], modes=["simple", "extended", "prepared"], scripts=["select", "mix"])
    if options.quick:
        usual = dict(rounds=2, seconds=2, clients=[16], modes=["simple"], scripts=["select", "mix"])
    if options.counters:
        usual = dict(rounds=1, seconds=2, clients=[1, 16, 64, 500], modes=["simple", "prepared"], scripts=[], durability=["commit"])
    for name, value in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def say(text=""):
    print(text, flush=True)


def build(children):
    """Builds pgweir; gives what went wrong, if something did."""
    if not shutil.which("cargo"):
        return "cargo is not installed"
    say("building pgweir (cargo build --release) ...")
    status, output = children.run(["cargo", "build", "--release"], cwd=ROOT, as_caller=True, timeout=3600)
    return None if status == 0 else "it does not build: " + " / ".join(output.strip().splitlines()[-3:])


def present(context, options):
    """The targets that can take part, with a line for each that cannot."""
    kinds = [kind for kind in targets.ALL if not options.only or kind.name in options.only]
    chosen = [kind(context) for kind in (counters.kinds(options) if options.counters else kinds)]
    if not options.no_build and any(isinstance(target, targets.Pgweir) for target in chosen):
        context.build_error = build(context.children)
    found, versions = [], {}
    for target in chosen:
        try:
            versions[target.name] = target.find()
            target.instance(targets.POOLED)
            found.append(target)
            say(f"  {target.name}: {versions[target.name]}")
        except (targets.Skipped, OSError, subprocess.SubprocessError) as reason:
            say(f"  {target.name}: SKIPPED, {reason}")
    return found, versions


def matrix(options):
    return [Cell(script, mode, clients) for script in options.scripts for mode in options.modes for clients in options.clients]


def profile(cell):
    return targets.PREPARED if cell.mode == "prepared" else targets.POOLED


def measure(bench, found, options):
    """All rounds of all cells: in each round every target has its turn, and the order turns with the rounds."""
    cells = matrix(options)
    results = {(cell, target.name): [] for cell in cells for target in found}
    for kind in sorted({profile(cell) for cell in cells}):
        widest = Cell("select", "prepared" if kind == targets.PREPARED else "simple", max(options.clients))
        for target in list(found):
            try:
                problem = bench.warm(target.instance(kind), widest).get("failed")
            except targets.Skipped as reason:
                problem = str(reason)
            if problem:
                say(f"  {target.name} does not manage {widest}: {problem}")
    for turn in range(options.rounds):
        for cell in cells:
            order = found[turn % len(found):] + found[:turn % len(found)]
            for target in order:
                try:
                    result = bench.run(target.instance(profile(cell)), cell, options.seconds)
                except targets.Skipped as reason:
                    result = {"failed": str(reason)}
                results[cell, target.name].append(result)
                told = f"{result['tps']:.0f} tps" if "tps" in result else f"FAILED: {result.get('failed')}"
                say(f"  round {turn + 1}/{options.rounds}  {str(cell):32} {target.name:14} {told}")
    return cells, results


def count_syscalls(bench, found, cells, options):
    """One short run for each cell and proxy."""
    counts, strace = {}, shutil.which("strace")
    if options.no_strace or not strace:
        say("system calls are not counted: " + ("--no-strace" if options.no_strace else "strace is not installed"))
        return counts
    for cell in cells:
        for target in found:
            try:
                instance = target.instance(profile(cell))
                if instance.proxy:
                    counts[cell, target.name] = bench.syscalls(instance, cell, strace)
            except (targets.Skipped, OSError) as reason:
                say(f"  {target.name}: system calls not counted, {reason}")
    return counts


def tell(found, cells, results, counts):
    """Prints the tables and gives their content."""
    say("\nRatios are medians of round-by-round ratios. user, sys: CPU seconds of the proxy per 1,000 queries; server:")
    say("of all PostgreSQL processes. sysc/q: the proxy's system calls per query. MB: the proxy's peak resident memory.")
    say("repl: the share of the reads that ran on replicas, as pgweir's console says.")
    told = []
    for cell in cells:
        say(f"\n== {cell}\n{report.header()}")
        for target in found:
            rounds = results[cell, target.name]
            content = report.summary(rounds, results.get((cell, "direct")), results.get((cell, "pgbouncer")))
            calls = counts.get((cell, target.name))
            say(report.row(target.name, content, calls))
            for problem in content["failed"]:
                say(f"  FAILED: {problem}")
            told.append({"script": cell.script, "mode": cell.mode, "clients": cell.clients, "target": target.name,
                         "syscalls_per_query": calls, **content, "raw": rounds})
    noise([result for rounds in results.values() for result in rounds])
    return told


def noise(measured):
    """Says how much of the machine others took, if they took any."""
    shares = [result.get("foreign_cpu", 0) for result in measured]
    doubtful = sum(share > FOREIGN_LIMIT for share in shares)
    if doubtful:
        say(f"\nNOISE: in {doubtful} of {len(measured)} measurements other programs took over {FOREIGN_LIMIT:.0%} of a core "
            f"(median: {statistics.median(shares):.2f} of {os.cpu_count()} cores).")


def tell_idle(found, count):
    rows = []
    for target in found:
        try:
            rows.append({"target": target.name, **extra.idle(target, count)})
        except (targets.Skipped, OSError, wire.Refused) as reason:
            rows.append({"target": target.name, "failed": str(reason)})
    columns = (("target", "target"), ("clients", "clients"), ("kB before", "pss_before_kb"), ("kB with", "pss_with_kb"),
               ("bytes/client", "bytes_per_client"), ("opened/s", "opened_per_second"),
               ("then SELECT 1, ms", "first_answer_ms"), ("", "failed"))
    say("\n" + report.table("Idle clients (direct, haproxy: of all their processes; haproxy's server processes not counted)",
                            columns, rows))
    return rows


def tell_large(found):
    rows = []
    for what in extra.LARGE:
        for target in found:
            try:
                rows.append({"what": what, "target": target.name, **extra.large(target, what)})
            except (targets.Skipped, OSError, wire.Refused) as reason:
                rows.append({"what": what, "target": target.name, "failed": str(reason)})
    columns = (("result", "what"), ("target", "target"), ("MB", "received_mb"), ("seconds", "seconds"),
               ("kB before", "rss_before_kb"), ("kB peak", "peak_rss_kb"), ("neighbour ms", "neighbour_ms"),
               ("max", "neighbour_max_ms"), ("", "neighbour"), ("", "failed"))
    say("\n" + report.table("1 GB to a client that reads nothing for 3 s, then 200 MB/s", columns, rows))
    return rows


def about(options, versions):
    """What the numbers depend on."""
    revision = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "revision": revision.stdout.strip(), "versions": versions, "cores": os.cpu_count(), "kernel": platform.release(),
        "scale": SCALE, "pool_size": targets.POOL_SIZE, "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "options": vars(options),
    }


def compare(options, children, folder):
    context = Context(options, children, folder)
    if options.counters:
        say("starting a primary with fsync on ...")
        connections = max(options.clients) + len(options.durability) * targets.POOL_SIZE + 100
        context.cluster = Cluster(children, folder, connections, 0, replicas=0, durable=True)
    else:
        say("starting a primary and two replicas ...")
        connections = 3 * max(max(options.clients), targets.POOL_SIZE, extra.UNPOOLED_CLIENTS) * 2 + 100
        context.cluster = Cluster(children, folder, connections, SCALE)
    context.cluster.start()
    found, versions = present(context, options)
    if not found:
        say("nothing to measure")
        return 1
    result, good = {"about": about(options, versions)}, True
    if options.counters:
        content, good = counters.measure(context, found, options, say)
        result.update(content)
        noise([result for cell in content["cells"] for result in cell["raw"]])
    elif options.idle or options.large:
        if options.idle:
            result["idle"] = tell_idle(found, options.idle)
        if options.large:
            result["large"] = tell_large(found)
    else:
        bench = Bench(context)
        once = len(matrix(options)) * len(found)
        say(f"{once} cells, about {once * (options.rounds * (options.seconds + 0.3) + 3) / 60:.0f} min")
        cells, measured = measure(bench, found, options)
        result["cells"] = tell(found, cells, measured, count_syscalls(bench, found, cells, options))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)
    return 0 if good else 1


def main():
    options = arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.idle and options.idle + 100 > hard:
        sys.exit(f"--idle {options.idle} needs more open files than the limit of {hard}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    children = Children()
    memory = "/dev/shm"
    roomy = os.path.isdir(memory) and shutil.disk_usage(memory).free > 4 << 30
    # What fsync costs is part of what counters are measured for: on a disk.
    folder = tempfile.mkdtemp(prefix="pgweir-bench-", dir=memory if roomy and not options.counters else None)
    os.chmod(folder, 0o755)
    children.own(folder)
    try:
        return compare(options, children, folder)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except (RuntimeError, OSError) as error:
        say(f"failed: {error}")
        return 1
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        children.stop_all()
        if options.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
