"""What /proc says of a process and its descendants."""

import os

TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid):
    with open(f"/proc/{pid}/stat") as file:
        # The name, in brackets, may hold blanks.
        return file.read().rpartition(")")[2].split()


def tree(root):
    """The process and all its descendants."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                children.setdefault(int(_stat(name)[1]), []).append(int(name))
            except OSError:
                continue
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo.extend(children.get(pid, []))
    return found


def cpu(root):
    """Seconds of user and of system time of the tree, children that have ended and been waited for included."""
    user = system = 0
    for pid in tree(root):
        try:
            fields = _stat(pid)
        except OSError:
            continue
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return user / TICK, system / TICK


def machine_cpu():
    """Seconds of user, nice, system and stolen time of the whole machine. Interrupts are left out."""
    with open("/proc/stat") as file:
        fields = file.readline().split()[1:]
    return sum(int(fields[i]) for i in (0, 1, 2, 7)) / TICK


def _status(pid, key, file="status"):
    try:
        with open(f"/proc/{pid}/{file}") as file:
            for line in file:
                if line.startswith(key):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def rss(root):
    """Resident kilobytes of the tree; memory that processes share counts in each."""
    return sum(_status(pid, "VmRSS:") for pid in tree(root))


def pss(root):
    """Proportional kilobytes of the tree: what several processes share is divided among them, so that the sum is fair."""
    return sum(_status(pid, "Pss:", "smaps_rollup") or _status(pid, "VmRSS:") for pid in tree(root))


def peak_rss(root):
    """The highest resident kilobytes of each process since `forget_peak`, summed."""
    return sum(_status(pid, "VmHWM:") for pid in tree(root))


def forget_peak(root):
    """Starts `peak_rss` anew (proc(5), clear_refs, 5)."""
    for pid in tree(root):
        try:
            with open(f"/proc/{pid}/clear_refs", "w") as file:
                file.write("5")
        except OSError:
            pass
