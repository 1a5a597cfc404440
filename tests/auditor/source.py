"""Sources of public files: a folder or an HTTP server. PROTOCOL.md, Public files."""

import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .fault import require

_FETCHES = 8
_TIMEOUT_SECONDS = 30
_TRIES = 10
_WAIT_SECONDS_MAX = 30
# A full bundle of the largest entries, with some room.
FILE_BYTES_MAX = 2 * 1024 * 1024


class Folder:
    def __init__(self, path):
        self.path = Path(path)

    def get(self, name):
        """The file's bytes, or None if there is none."""
        path = self.path / name
        if not path.is_file():
            return None
        require(path.stat().st_size <= FILE_BYTES_MAX, "too_long", name)
        return path.read_bytes()


class Server:
    def __init__(self, url):
        self.url = url.rstrip("/")

    def get(self, name):
        """The response body, or None if the server has no such file; waits if the server asks for it."""
        for _ in range(_TRIES):
            try:
                return self._fetch(name)
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return None
                if error.code not in (429, 503):
                    raise
                time.sleep(_seconds(error.headers.get("Retry-After")))
        raise OSError(f"{self.url} has no time for {name}")

    def _fetch(self, name):
        with urllib.request.urlopen(f"{self.url}/{name}", timeout=_TIMEOUT_SECONDS) as answer:
            body = answer.read(FILE_BYTES_MAX + 1)
        require(len(body) <= FILE_BYTES_MAX, "too_long", name)
        return body


def _seconds(header):
    fits = header is not None and header.isascii() and header.isdigit()
    return min(int(header), _WAIT_SECONDS_MAX) if fits else 1


def open_source(name):
    return Server(name) if name.startswith(("http://", "https://")) else Folder(name)


def get_all(source, names):
    """Each file, or None, in the order of the names."""
    with ThreadPoolExecutor(_FETCHES) as pool:
        return list(pool.map(source.get, names))
