"""One log from its first entry on: batches, adoptions, state roots. PROTOCOL.md, Logs and replication."""

from collections import Counter

from . import event as events
from . import rows
from .bounds import BATCH_ENTRIES_MAX, NOTE_QUOTA_BYTES
from .days import day_of
from .fold import Fold
from .maps import Map, state_root
from .tree import EMPTY


class LogFault(Exception):
    """Why a log is invalid from a batch on, with the entry if one is at fault."""

    def __init__(self, code, what="", index=None):
        super().__init__(code)
        self.code, self.what, self.index = code, what, index


class Waits(Exception):
    """The log adopts a version that is not held. That is no fault, but the rest cannot be replayed."""


class Replay:
    """Replays a log's entries into its maps.

    `heir` is the `Succession` that knows what passes to this log. `size` and `root` are of the last
    batch that holds, `outcomes` those of its entries and of all before, state entries left out.
    """

    def __init__(self, chain, log, heir):
        self.chain, self.log, self.heir = chain, log, heir
        self.maps = {}
        self.row = rows.LogRow(0, 0, 0, 0)
        self.size, self.root = 0, bytes(32)
        # The root of the log's tree at `size`; the caller that has the tree sets it.
        self.tree_root = EMPTY
        self.outcomes = []
        self.notes = []
        # Sizes at the ends of the batches that adopt a version.
        self.adoptions = []

    @property
    def adopted(self):
        return self.row.adopted

    def run(self, raws, faults):
        """Replays whole batches to the end; raises `LogFault` or `Waits` where it must stop."""
        batch = []
        for index, (raw, fault) in enumerate(zip(raws, faults, strict=True)):
            if fault:
                raise LogFault(fault.code, fault.what, index)
            entry = events.decode_entry(raw)
            batch.append((index, raw, entry))
            if isinstance(entry.body, events.State):
                self._batch(batch)
                batch = []
            elif len(batch) > BATCH_ENTRIES_MAX:
                raise LogFault("batch_shape", "more entries than a batch may have")
        if batch:
            raise LogFault("batch_shape", "no state entry at the end")

    def head(self):
        """The log's part of the state id."""
        return self.size, self.tree_root, self.root

    def count(self):
        """The number of entries with each outcome."""
        return Counter(self.outcomes)

    def _batch(self, batch):
        *entries, (at, _, last) = batch
        if not entries:
            raise LogFault("batch_shape", "a state entry alone")
        row, outcomes, adopts = self.row, [], False
        for position, (index, raw, entry) in enumerate(entries):
            if entry.time < row.time:
                raise LogFault("time_back", "before the entry before it", index)
            is_adopt = isinstance(entry.body, events.Adopt)
            begins = row.adopted == 0 and not is_adopt
            if begins or adopts or is_adopt and position:
                raise LogFault("adopt", "an adoption stands alone, and first in a log", index)
            under = row.adopted
            if is_adopt:
                row = row._replace(adopted=self._adopt(index, entry))
                adopts = True
            row = self._count_bytes(row, raw, entry, index, self.chain[under or row.adopted])
            outcomes.append("adopted" if is_adopt else self._apply(index, entry))
        if last.time != row.time:
            raise LogFault("time_back", "a state entry of another time", at)
        self.maps["log"].put(rows.LOG_KEY, row)
        root = state_root(self.maps)
        if root != last.body.root:
            raise LogFault("state_root", f"the entries make {root.hex()}")
        self.row, self.root, self.size = row, root, at + 1
        self.outcomes += outcomes
        if adopts:
            self.adoptions.append((row.adopted, self.size))

    def _adopt(self, index, entry):
        body = entry.body
        wanted = self.adopted + 1 if self.adopted else self.chain.born[self.log]
        if body.version != wanted:
            raise LogFault("adopt", f"version {body.version} instead of {wanted}", index)
        if self.chain.cuts.get(self.log, (wanted + 1,))[0] <= wanted:
            raise LogFault("adopt", f"version {wanted} cuts this log", index)
        if wanted > len(self.chain):
            raise Waits(f"adopts version {wanted}, which is not here")
        if body.hash != self.chain[wanted].hash:
            raise LogFault("adopt", f"another version {wanted}", index)
        if not self.heir.is_in_use(wanted):
            raise Waits(f"adopts version {wanted}, which cuts a log that is not here to its end")
        self._carry(self.chain[wanted], index, entry.time)
        return wanted

    def _carry(self, manifest, index, time):
        """Takes over the maps that the version gives to this log, if it may at this time."""
        names = {f"home/{home}" for home, log in manifest.homes.items() if log == self.log}
        names |= {f"{what}/{self.log.operator}" for what in ("statements", "claims")} | {"log"}
        names |= self.heir.inherited(self.log, manifest.version)
        taken = sorted(names - set(self.maps))
        holders = {name: self.heir.holder(name, manifest.version) for name in taken if name != "log"}
        earliest = [holder.row.time for holder in holders.values() if holder is not None]
        if self.adopted == 0:
            earliest.append(self.chain.begins[self.log])
        if time < max(earliest, default=0):
            raise LogFault("too_early", f"version {manifest.version}", index)
        for name in taken:
            holder = holders.get(name)
            self.maps[name] = Map() if holder is None else holder.maps[name]
        key = self.chain.node_keys[self.log]
        self.fold = Fold(self.log, key, manifest.policy, self.maps)

    def _count_bytes(self, row, raw, entry, index, version):
        day, count = day_of(entry.time), len(raw)
        if isinstance(entry.body, events.SignedEvent):
            note = entry.body.event.fields.get("note")
            count += NOTE_QUOTA_BYTES if note else 0
            if note:
                self.notes.append((index, note))
        count += row.bytes if row.day == day else 0
        if count > version.policy["daily_bytes"]:
            raise LogFault("daily_bytes", f"{count} bytes", index)
        return rows.LogRow(row.adopted, entry.time, day, count)

    def _apply(self, index, entry):
        event_id = events.event_id(events.show_event(entry.body.event))
        return self.fold.apply(index, entry.time, entry.body, event_id)
