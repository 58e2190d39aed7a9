"""A PostgreSQL server of the test's own: in a temporary folder, on a Unix socket, ended with the test.

Debian keeps the server's commands out of PATH, in a folder for each version.
"""

import os
import pwd
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

DEBIAN = Path("/usr/lib/postgresql")


def server_command(name):
    """Return the path of one of PostgreSQL's server commands, the newest version; None if it is not installed."""
    found = [path for path in DEBIAN.glob(f"*/bin/{name}") if path.parts[-3].isdecimal()]
    newest = max(found, key=lambda path: int(path.parts[-3]), default=None)
    return shutil.which(name) or (newest and str(newest))


def _account():
    """Arguments for subprocess: PostgreSQL refuses to run as root."""
    if os.getuid():
        return {}, os.getuid()
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": name, "group": found.pw_gid, "extra_groups": []}, found.pw_uid
    raise RuntimeError("no account to run PostgreSQL with")


@contextmanager
def running_server(tmp_path):
    """Yield the URL of an empty database."""
    account, owner = _account()
    # Not in tmp_path: that is private to this account, and the path of a socket may have 107 characters.
    folder = Path(mkdtemp(prefix="pg-"))
    os.chown(folder, owner, -1)
    data, log = folder / "data", folder / "log"
    try:
        quiet = {"stdout": subprocess.DEVNULL, "check": True, "cwd": folder, **account}
        subprocess.run([server_command("initdb"), "-D", data, "-U", "tester", "--auth=trust", "--no-sync"], **quiet)
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        subprocess.run([server_command("pg_ctl"), "-D", data, "-l", log, "-w", "-o", options, "start"], **quiet)
        try:
            yield f"postgresql+psycopg2://tester@/postgres?host={folder}"
        finally:
            subprocess.run([server_command("pg_ctl"), "-D", data, "-m", "immediate", "stop"], **quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
