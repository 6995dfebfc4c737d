"""A disk of its own, small and in memory, that a test may fill or make read-only."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT_RIGHTS = [] if os.geteuid() == 0 else ["sudo", "-n"]


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Mount an empty disk of this size at a folder; the test is skipped where nothing can be mounted."""
    folder.mkdir(exist_ok=True)
    options = f"size={megabytes}m,uid={os.getuid()}"
    mount = subprocess.run(
        [*ROOT_RIGHTS, "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"this test needs a small disk, and none can be mounted here: {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run([*ROOT_RIGHTS, "umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a mounted disk: `size=20m`, `ro` or `rw`."""
    subprocess.run([*ROOT_RIGHTS, "mount", "-o", f"remount,{options}", folder], check=True)


@contextmanager
def filled(folder: Path, leave: int) -> Iterator[None]:
    """Take all room but `leave` bytes of a disk, and give it back at the end."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(folder).free - leave)
    try:
        yield
    finally:
        filler.unlink()
