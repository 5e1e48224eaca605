"""The settings of the embedded server, each with its reason, and how they are written to postgresql.conf.

The values suit a loader beside Dagster on a small machine (2 cores, 4 GB). Encoding and collation are fixed by initdb.
"""

import os
from pathlib import Path

_SETTINGS = {
    # One client machine, many short Dagster connections. More would only take memory.
    "max_connections": "100",
    # What the operating system caches on top: the planner's guess, nothing is allocated.
    "effective_cache_size": "1GB",
    # Loads sort and hash whole days. Few run at once, so each may have more than the default 4 MB.
    "work_mem": "32MB",
    "maintenance_work_mem": "256MB",
    # With the default 1 GB and 5 minutes a large backfill checkpoints continuously, and after each
    # checkpoint pages are written to the WAL in full again. The price: disk space, and a longer recovery.
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    # A day that was reported as loaded must survive a power cut, so a commit waits for the disk. This is
    # the default, set explicitly because switching it off is common advice for loaders; with one commit per
    # day that gains little. (wal_compression stays off: the wheel has neither lz4 nor zstd, and pglz costs
    # more CPU than it saves here.)
    "synchronous_commit": "on",
    # Compiling a query costs more than it saves on statements that take milliseconds.
    "jit": "off",
    # Solid-state disks: a random page costs about as much as the next one.
    "random_page_cost": "1.1",
    # A session that hangs inside a transaction must not block every later load.
    "idle_in_transaction_session_timeout": "1h",
    # A plain calendar date must mean the same on every machine.
    "timezone": "UTC",
    "log_timezone": "UTC",
    "datestyle": "iso, ymd",
    # English messages: they can be searched for, and the reason of a failed start is detected by its text.
    "lc_messages": "C",
    # server.log holds what is worth reading: errors with their statement, slow statements, and who sent
    # them (application name and database). The checkpoints of a busy loader would bury them.
    "log_checkpoints": "off",
    "log_min_duration_statement": "10s",
    # Without the statements' values, which are names and phones: `sales-assets forget` can't erase them from a log.
    "log_parameter_max_length": "0",
    "log_line_prefix": "%m [%p] %q%a@%d ",
}

# The days that are loaded stay in memory until the index has summarized them and the checks have read them: a load of
# 4 million lines took 6.8 times a plain COPY of them with 256 MB, and 6.0 times with 1 GB.
_SHARED_BUFFERS_MB = (256, 1024)
_SHARE_OF_MEMORY = 16
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

_HEADER = """\
# Rewritten by sales_assets each time it starts this server: changes in this file are lost.
# To change a setting permanently: ALTER SYSTEM SET name = value (postgresql.auto.conf takes precedence).
"""


def render_settings(socket_dir: Path, port: int) -> str:
    """Render postgresql.conf for a server that listens on a Unix socket in `socket_dir` only."""
    # A comma-separated list, of which each item may be in double quotes.
    listed = '"{}"'.format(str(socket_dir).replace('"', '""'))
    settings = {
        "listen_addresses": "",
        "port": str(port),
        "unix_socket_directories": listed,
        "unix_socket_permissions": "0700",
        "shared_buffers": f"{_shared_buffers_mb()}MB",
        **_SETTINGS,
    }
    return _HEADER + "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())


def _shared_buffers_mb() -> int:
    least, most = _SHARED_BUFFERS_MB
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # A container sees the memory of its machine; its own limit is in the cgroup's file.
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.exists() else "max"
    if limit.isdecimal():
        memory = min(memory, int(limit))
    return max(least, min(most, (memory >> 20) // _SHARE_OF_MEMORY))


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n") + "'"
