"""Medians, ratios and their spread, as text."""

import statistics

COLUMNS = (
    ("target", 14), ("tps", 8), ("min-max", 15), ("/direct", 8), ("min-max", 11), ("/pgbouncer", 11), ("min-max", 11),
    ("avg ms", 8), ("p99 ms", 8), ("/direct", 8), ("user", 7), ("sys", 7), ("server", 7), ("sysc/q", 7), ("MB", 6), ("repl", 5),
)


def values(rounds, key):
    return [result[key] for result in rounds if result and result.get(key) is not None]


def spread(numbers, form="{:.2f}"):
    """The median, the least and the most; None for nothing."""
    if not numbers:
        return None, "-", "-"
    text = f"{form.format(min(numbers))}-{form.format(max(numbers))}"
    return statistics.median(numbers), form.format(statistics.median(numbers)), text


def ratios(rounds, base, key):
    """Round by round against the base of the same round: what slows a whole round falls out."""
    pairs = zip(rounds, base or [])
    return [mine[key] / other[key] for mine, other in pairs if mine and other and mine.get(key) and other.get(key)]


def summary(rounds, direct, pgbouncer):
    """All that is said of one target in one cell, for the table and the JSON."""
    found = {"rounds": len(values(rounds, "tps")), "failed": sorted(set(values(rounds, "failed")))}
    for key in ("tps", "latency_ms", "p50_ms", "p99_ms", "proxy_user_per_1000", "proxy_system_per_1000",
                "server_cpu_per_1000", "proxy_peak_rss_kb", "foreign_cpu", "reads_on_replicas"):
        numbers = values(rounds, key)
        if numbers:
            found[key] = {"median": statistics.median(numbers), "min": min(numbers), "max": max(numbers)}
    for name, base in (("direct", direct), ("pgbouncer", pgbouncer)):
        for key in ("tps", "latency_ms", "p99_ms"):
            numbers = ratios(rounds, base, key)
            if numbers:
                found[f"{key}_to_{name}"] = {
                    "median": statistics.median(numbers), "min": min(numbers), "max": max(numbers)
                }
    return found


def row(name, found, syscalls):
    """One line of the table."""
    def number(key, form="{:.2f}", scale=1.0):
        return form.format(found[key]["median"] * scale) if key in found else "-"

    def least_most(key, form="{:.2f}"):
        return f"{form.format(found[key]['min'])}-{form.format(found[key]['max'])}" if key in found else "-"

    cells = [
        name, number("tps", "{:.0f}"), least_most("tps", "{:.0f}"),
        number("tps_to_direct"), least_most("tps_to_direct"), number("tps_to_pgbouncer"), least_most("tps_to_pgbouncer"),
        number("latency_ms", "{:.3f}"), number("p99_ms", "{:.2f}"), number("latency_ms_to_direct"),
        number("proxy_user_per_1000", "{:.4f}"), number("proxy_system_per_1000", "{:.4f}"),
        number("server_cpu_per_1000", "{:.4f}"), "-" if syscalls is None else f"{syscalls:.2f}",
        number("proxy_peak_rss_kb", "{:.1f}", 1 / 1024), number("reads_on_replicas"),
    ]
    return line(cells)


def line(cells):
    first, *rest = (str(cell) for cell in cells)
    widths = [width for _, width in COLUMNS]
    return first.ljust(widths[0]) + "".join(" " + cell.rjust(width) for cell, width in zip(rest, widths[1:]))


def header():
    return line(name for name, _ in COLUMNS)


def table(title, columns, rows):
    """A small table of dictionaries."""
    widths = [max(len(name), *(len(str(r.get(key, "-"))) for r in rows)) for name, key in columns] if rows else []
    lines = [title, "  ".join(name.rjust(width) for (name, _), width in zip(columns, widths))]
    lines += ["  ".join(str(r.get(key, "-")).rjust(w) for (_, key), w in zip(columns, widths)) for r in rows]
    return "\n".join(lines)
