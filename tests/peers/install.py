"""Each peer in an environment of its own, because their demands clash."""

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from layout import Layout


class NotInstalled(Exception):
    """A peer that could not be installed, and why."""


def install(peer, adapter: str, layout: Layout) -> None:
    """Installs what is not installed yet. An environment cannot be moved, so its marker lies beside it."""
    environment = layout.environment(adapter)
    source = getattr(peer, "SOURCE_PACKAGE", None)
    bare = getattr(peer, "BARE_PACKAGES", ())
    wanted = repr((peer.PACKAGES, bare, source, getattr(peer, "SOURCE_EDITS", ())))
    marker = environment.with_name(f"{adapter}.installed")
    if marker.exists() and marker.read_text() == wanted:
        return
    print(f"install {peer.NAME}", file=sys.stderr, flush=True)
    layout.root.mkdir(parents=True, exist_ok=True)
    pip = [layout.python(adapter), "-m", "pip"]
    with open(layout.log, "a") as log:
        variables = {**getattr(peer, "BUILD_ENVIRONMENT", {}), **os.environ}
        run = lambda *command: subprocess.run(command, check=True, stdout=log, stderr=log, env=variables)
        try:
            run(sys.executable, "-m", "venv", environment)
            run(*pip, "install", *peer.PACKAGES)
            if bare:
                run(*pip, "install", "--no-deps", *bare)
            if source:
                build_edited(run, pip, source, peer.SOURCE_EDITS)
        except (subprocess.CalledProcessError, NotInstalled) as error:
            raise NotInstalled(f"cannot be installed: {error}, see {layout.log.name}") from error
    marker.write_text(wanted)


def build_edited(run, pip: list, package: str, edits) -> None:
    """Fetches a package's source, edits it, and installs what it builds."""
    with tempfile.TemporaryDirectory() as folder:
        run(*pip, "download", "--no-deps", "--no-binary", package, "--dest", folder, package)
        archive = next(Path(folder).glob("*.tar.gz"))
        run("tar", "-xzf", archive, "-C", folder)
        source = archive.with_name(archive.name.removesuffix(".tar.gz"))
        for file, after, old, new in edits:
            edit(source / file, after, old, new)
        run(*pip, "install", source)


def edit(file: Path, after: str, old: str, new: str) -> None:
    """Replaces the first `old` behind `after`."""
    head, mark, tail = file.read_text().partition(after)
    if old not in tail:
        raise NotInstalled(f"{file.name} no longer has the line that is edited behind {after}")
    file.write_text(head + mark + tail.replace(old, new, 1))


def version(peer, packages: Path) -> str:
    """Of what is shown, e.g. `transformers 5.24.0, torch 2.15.0`."""
    found = lambda name: next(importlib.metadata.Distribution.discover(name=name, path=[str(packages)]))
    return ", ".join(f"{name} {found(name).version}" for name in peer.SHOWN)
