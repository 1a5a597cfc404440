"""Checks each entry of a log on its own, on all processors."""

import os
from concurrent.futures import ProcessPoolExecutor

from .event import check_entries

_CHUNK = 1024


class Verifier:
    """A pool of processes; each takes a few thousand entries at a time."""

    def __init__(self, processes=None):
        count = processes or os.cpu_count()
        self.pool = ProcessPoolExecutor(count) if count > 1 else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pool:
            self.pool.shutdown()

    def faults(self, entries, federation):
        """For each entry a `Fault`, or None."""
        chunks = [entries[at : at + _CHUNK] for at in range(0, len(entries), _CHUNK)]
        run = self.pool.map if self.pool else map
        checked = run(check_entries, chunks, [federation] * len(chunks))
        return [fault for chunk in checked for fault in chunk]
