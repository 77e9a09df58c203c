"""What is compared: each target knows whether it is installed, and how it is started."""

import os
import re
import shutil
import subprocess

from cluster import free_port, wait_for

POOL_SIZE = 20

# With `prepared`, pgbench names its statements. A pooler that does not know names has to give each client a server
# connection of its own, so there the pool is as large as the number of clients.
POOLED, PREPARED = "pooled", "prepared"


class Skipped(Exception):
    """A target that cannot take part, and why."""


class Instance:
    """A running proxy, or the primary itself."""

    def __init__(self, name, port, process, proxy, tells=False):
        self.name, self.port, self.process, self.proxy = name, port, process, proxy
        # Its console says where statements went.
        self.tells = tells

    @property
    def pid(self):
        return self.process.pid


class Target:
    """One column of the comparison. Instances are started when first asked for, one per profile."""

    name = ""
    # Whether many clients share few server connections.
    pools = True
    # Whether the target splits statements over all servers.
    splits = False
    # Whether its console says where statements went.
    tells = False

    def __init__(self, context):
        self.context, self.instances, self.failed = context, {}, None

    def find(self):
        """Raises Skipped where the program is missing. Gives its version, for the report."""
        raise NotImplementedError

    def command(self, port, profile):
        """Writes the configuration and gives the command line."""
        raise NotImplementedError

    def pool_size(self, profile):
        return max(POOL_SIZE, self.context.max_clients) if profile == PREPARED else POOL_SIZE

    def instance(self, profile):
        """The running instance for the profile."""
        if self.failed:
            raise Skipped(self.failed)
        if profile not in self.instances:
            self.instances[profile] = self._start(profile)
        return self.instances[profile]

    def _start(self, profile):
        port = free_port()
        log = self.path(f"{profile}.log")
        process = self.context.children.spawn(self.command(port, profile), log=log, cwd=self.context.folder)
        problem = wait_for(port, "postgres", process)
        if problem:
            self.context.children.stop(process)
            with open(log, errors="replace") as file:
                last = " / ".join(file.read().strip().splitlines()[-3:])
            self.failed = f"did not start: {problem}. {last}"[:600]
            raise Skipped(self.failed)
        return Instance(self.name, port, process, True, self.tells)

    def path(self, name):
        return os.path.join(self.context.folder, f"{self.name}-{name}")

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w") as file:
            file.write(text)
        self.context.children.own(path)
        return path


class Direct(Target):
    name, pools = "direct", False

    def find(self):
        return f"PostgreSQL {self.context.cluster.version()}"

    def _start(self, _profile):
        cluster = self.context.cluster
        return Instance(self.name, cluster.ports[0], cluster.processes[0], False)


class Pgweir(Target):
    name, splits, tells = "pgweir", True, True

    def find(self):
        built = os.path.join(self.context.root, "target", "release", "pgweir")
        if self.context.build_error:
            raise Skipped(self.context.build_error)
        if not os.path.exists(built):
            raise Skipped(f"{built} does not exist (leave out --no-build to build it)")
        # A copy: another user has to reach it, and a build during the run must not change it.
        self.binary = os.path.join(self.context.folder, "pgweir")
        if not os.path.exists(self.binary):
            shutil.copy(built, self.binary)
            os.chmod(self.binary, 0o755)
        return version([self.binary, "--version"])

    def servers(self):
        return self.context.cluster.ports

    def metrics(self):
        """Where its metrics are to be had."""
        return "off"

    def rules(self):
        """What its database has besides servers, as TOML."""
        return ""

    def command(self, port, profile):
        servers = ", ".join(f'"127.0.0.1:{server}"' for server in self.servers())
        config = self.write(f"{profile}.toml", f"""\
listen = "127.0.0.1:{port}"
auth_type = "trust"
pool_size = {self.pool_size(profile)}
{f"max_client_conn = {self.context.idle + 1000}" if self.context.idle else ""}
{self.context.pgweir_set}

[metrics]
listen = "{self.metrics()}"

[monitor]
user = "postgres"

[databases."*"]
servers = [{servers}]
{self.rules()}
""")
        return [self.binary, "run", "-c", config]


class PgweirPrimary(Pgweir):
    """PgBouncer's like-for-like: only the primary is behind it."""

    name, splits = "pgweir-primary", False

    def servers(self):
        return self.context.cluster.ports[:1]


class Pgbouncer(Target):
    name = "pgbouncer"

    def find(self):
        self.binary = which("pgbouncer")
        text = version([self.binary, "--version"])
        found = re.search(r"(\d+)\.(\d+)", text)
        # Since 1.21 it keeps track of named statements in transaction pooling.
        self.knows_names = bool(found) and (int(found[1]), int(found[2])) >= (1, 21)
        return text

    def command(self, port, profile):
        session = profile == PREPARED and not self.knows_names
        users = self.write("users.txt", '"postgres" ""\n')
        config = self.write(f"{profile}.ini", f"""\
[databases]
* = host=127.0.0.1 port={self.context.cluster.ports[0]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {"session" if session else "transaction"}
default_pool_size = {self.pool_size(profile)}
max_client_conn = {self.context.idle + 1000}
ignore_startup_parameters = extra_float_digits
{"max_prepared_statements = 200" if self.knows_names else ""}
log_connections = 0
log_disconnections = 0
log_stats = 0
""")
        return [self.binary, config]


class Pgpool(Target):
    name, pools, splits = "pgpool", False, True

    def find(self):
        self.binary = which("pgpool")
        return version([self.binary, "--version"])

    def command(self, port, profile):
        children = max(POOL_SIZE, self.context.max_clients) + 4
        backends = "\n".join(
            f"backend_hostname{i} = '127.0.0.1'\nbackend_port{i} = {server}\nbackend_weight{i} = 1\n"
            f"backend_flag{i} = 'DISALLOW_TO_FAILOVER'"
            for i, server in enumerate(self.context.cluster.ports)
        )
        config = self.write(f"{profile}.conf", f"""\
backend_clustering_mode = 'streaming_replication'
listen_addresses = '127.0.0.1'
port = {port}
pcp_listen_addresses = ''
unix_socket_directories = '{self.context.folder}'
pcp_socket_dir = '{self.context.folder}'
pid_file_name = '{self.path(profile + ".pid")}'
logdir = '{self.context.folder}'
{backends}
num_init_children = {children}
max_pool = 1
connection_cache = on
load_balance_mode = on
enable_pool_hba = off
sr_check_period = 10
sr_check_user = 'postgres'
sr_check_database = 'postgres'
health_check_period = 0
""")
        return [self.binary, "-n", "-f", config]


class Haproxy(Target):
    """Bytes only: what a proxy in the way costs by itself."""

    name, pools = "haproxy", False

    def find(self):
        self.binary = which("haproxy")
        return version([self.binary, "-v"])

    def command(self, port, profile):
        config = self.write(f"{profile}.cfg", f"""\
global
    maxconn 2000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen postgres
    bind 127.0.0.1:{port}
    server primary 127.0.0.1:{self.context.cluster.ports[0]}
""")
        return [self.binary, "-db", "-f", config]


def which(program):
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")
    if not found:
        raise Skipped(f"{program} is not installed")
    return found


def version(command):
    output = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10, check=False)
    lines = (output.stdout + output.stderr).strip().splitlines()
    return lines[0] if lines else "version unknown"


ALL = [Direct, Pgweir, PgweirPrimary, Pgbouncer, Pgpool, Haproxy]
