"""A PostgreSQL server of the tests' own, on 127.0.0.1, gone when they end."""

import getpass
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl: Debian's newest, or that of the initdb on the PATH; None where there is none."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: float(file.parts[-3]))
    on_path = shutil.which("initdb")
    return installed[-1].parent if installed else Path(on_path).parent if on_path else None


@contextmanager
def server() -> Iterator[str]:
    """A server with an empty cluster that trusts whoever is on this machine; yields its URL up to the database's name."""
    with tempfile.TemporaryDirectory(prefix="fracture-mae-postgres-", ignore_cleanup_errors=True) as folder:
        port = free_port()
        as_user = _as_user()
        if as_user:
            shutil.chown(folder, "postgres")
        data = f"{folder}/data"
        _run([*as_user, f"{binaries()}/initdb", "-D", data, "-U", "tester", "--auth=trust", "--no-sync"], folder)
        settings = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
        control = [*as_user, f"{binaries()}/pg_ctl", "-D", data, "-w"]
        _run([*control, "-l", f"{folder}/log", "-o", settings, "start"], folder)
        try:
            yield f"postgresql+psycopg://tester@127.0.0.1:{port}/"
        finally:
            _run([*control, "-m", "immediate", "stop"], folder)


def pause(url: str, seconds: float) -> None:
    """Stop the server behind `url`, whatever is done there, and start it again after a while."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", "") + "postgres") as connection:
        (data,) = connection.execute("SHOW data_directory").fetchone()
    folder = Path(data).parent
    _, options = Path(data, "postmaster.opts").read_text().split(maxsplit=1)
    control = [*_as_user(), f"{binaries()}/pg_ctl", "-D", data, "-w"]
    _run([*control, "-m", "fast", "stop"], str(folder))
    time.sleep(seconds)
    _run([*control, "-l", f"{folder}/log", "-o", options.strip(), "start"], str(folder))


def create_database(url: str, name: str) -> str:
    """A new database on the server behind `url`; its URL."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", "") + "postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return url + name


def _as_user() -> list[str]:
    """What a command of the server's begins with: PostgreSQL refuses to run as root; Debian's packages bring a user for it."""
    if os.geteuid() != 0:
        return []
    # It stands among the commands of administrators, which not everybody's PATH holds.
    runuser = shutil.which("runuser", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    assert runuser is not None, "root needs runuser to start PostgreSQL as another user (Debian: util-linux)"
    return [runuser, "-u", "postgres", "--"]


def _run(command: list[str], folder: str) -> None:
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, f"as {getpass.getuser()}: {command}: {done.stderr}"
