"""The processes that a run starts: owned by it, and stopped by their ids when it ends, however it ends."""

import ctypes
import os
import pwd
import signal
import subprocess
import time

PR_SET_PDEATHSIG = 1


class Children:
    """Starts programs, as `postgres` where the caller is root (PostgreSQL and PgBouncer refuse to be root)."""

    def __init__(self):
        self.alive = []
        self.user = "postgres" if os.geteuid() == 0 else None
        self.libc = ctypes.CDLL(None)

    def environment(self):
        """Our own environment without libpq's variables, which would change what the programs do."""
        return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}

    def own(self, path):
        """Gives a file or folder to the user that the programs run as."""
        if self.user:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def spawn(self, command, log=None, stop=signal.SIGTERM, as_caller=False, **options):
        """Starts a program in a session of its own. `stop` is the signal that ends it in good order."""
        user = None if as_caller else self.user
        if user:
            options.update(user=user, group=user, extra_groups=[])
        if log:
            options.update(stdout=open(log, "ab"), stderr=subprocess.STDOUT)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=self.environment(),
            start_new_session=True,
            # Even a SIGKILL of this script leaves nothing behind.
            preexec_fn=lambda: self.libc.prctl(PR_SET_PDEATHSIG, stop),
            **options,
        )
        process.stop_signal = stop
        self.alive.append(process)
        return process

    def run(self, command, timeout=120, **options):
        """Runs a program to its end; gives its exit code and what it printed."""
        process = self.spawn(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.stop(process)
            output, _ = process.communicate()
            return 124, f"{output}\nstopped after {timeout} s"
        finally:
            if process in self.alive and process.poll() is not None:
                self.alive.remove(process)
        return process.returncode, output

    def must(self, command, **options):
        """Runs a program that has to succeed."""
        status, output = self.run(command, **options)
        if status != 0:
            raise RuntimeError(f"{command[0]} failed with {status}:\n{output[-2000:]}")
        return output

    def stop(self, process, patience=10):
        """Ends one program: asks, waits, then kills its session."""
        if process in self.alive:
            self.alive.remove(process)
        if process.poll() is not None:
            return
        process.send_signal(process.stop_signal)
        deadline = time.monotonic() + patience
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def stop_all(self):
        """Ends everything, the last started first."""
        for process in reversed(list(self.alive)):
            self.stop(process)
