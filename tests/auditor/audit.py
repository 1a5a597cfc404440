"""The audit of one source: checks every file and folds every log. PROTOCOL.md, Public files."""

from typing import NamedTuple

from . import bounds, signed, tiles
from .adoption import certifying
from .fault import Fault, require
from .join import Join
from .log import LogFault, Replay, Waits
from .manifest import Chain, parse_manifest, read_chain
from .note import note_hash, parse_note
from .policy import check_policy
from .source import get_all
from .succession import Succession
from .tree import Tree, leaf_hash


class Finding(NamedTuple):
    """A fault, with its log and entry if it is in one."""

    code: str
    what: str
    log: str | None = None
    index: int | None = None


class Audit:
    """Runs once; afterwards `findings` has the faults, and the other fields what the source has."""

    def __init__(self, source, verifier, trusted=None):
        self.source = source
        self.verifier = verifier
        self.trusted = trusted
        self.findings = []
        self.chain = None
        self.succession = None
        self.join = None
        self.trees = {}
        self.heads = {}
        self.certified = {}
        self.notes = {"named": 0, "present": 0}

    def run(self):
        try:
            self._read_chain()
        except Fault as fault:
            self._find(fault.code, fault.what)
            return self
        self.succession = Succession(self.chain)
        for log in self.succession.order():
            try:
                self._log(log)
            except Fault as fault:
                self._find(fault.code, fault.what, log)
        try:
            self._check_policy()
        except Fault as fault:
            self._find(fault.code, fault.what)
        self._check_notes()
        if not self.findings:
            self.join = Join(self.succession)
        return self

    def _find(self, code, what, log=None, index=None):
        self.findings.append(Finding(code, what, None if log is None else str(log), index))

    def _read_chain(self):
        """Reads versions 1, 2, … up to the first that is missing; the trusted versions must be among them."""
        genesis = self._manifest(1)
        require(genesis is not None, "file_missing", "manifest/1")
        self.chain = Chain(parse_manifest(genesis))
        while len(self.chain) < bounds.VERSIONS_MAX:
            raw = self._manifest(len(self.chain) + 1)
            if raw is None:
                break
            self.chain.append(parse_manifest(raw))
        if self.trusted is not None:
            self._check_trusted()

    def _manifest(self, version):
        return self.source.get(f"manifest/{version}")

    def _check_trusted(self):
        trusted = read_chain(self.trusted)
        require(len(trusted) <= len(self.chain), "manifest_rollback",
                f"version {len(trusted)} is trusted, the newest here is {len(self.chain)}")
        for ours, theirs in zip(trusted.versions, self.chain.versions, strict=False):
            require(ours.hash == theirs.hash, "manifest_untrusted", f"another version {ours.version}")

    def _log(self, log):
        """Reads, checks and folds one log; a log that was cut ends at the cut, whatever else is signed."""
        cut = self.chain.cuts[log][1] if log in self.chain.cuts else None
        folder = f"log/{log.operator}/{log.generation}"
        note, head = self._checkpoint(log, folder)
        end = head if cut is None else signed.Head(cut.size, cut.root)
        if end is None or end.size == 0:
            return
        entries = tiles.read_entries(self.source, folder, end.size)
        tree = self.trees[log] = Tree([leaf_hash(entry) for entry in entries])
        self.heads[log] = end
        self._check_tree(folder, log, entries, end)
        if head is not None and head.size <= end.size:
            same = tree.root(head.size) == head.root
            require(same, "fork", f"the checkpoint of size {head.size} is of another tree")
        replay = self._replay(log, entries)
        replay.tree_root = tree.root(replay.size)
        self._check_end(log, replay, end, cut, note)

    def _checkpoint(self, log, folder):
        """The note and the head that the owner signed; None for both if there is no checkpoint."""
        raw = self.source.get(f"{folder}/checkpoint")
        if raw is None:
            return None, None
        note = signed.parse_signed(raw, bounds.CHECKPOINT_BYTES_MAX)
        owner = self.chain.node_keys[log]
        return note, signed.open_checkpoint(note, self.chain.origin(log), owner)

    def _check_tree(self, folder, log, entries, end):
        """Checks that the entries give the signed root, and that the tiles are those of its tree."""
        tree, published = self.trees[log], tiles.read_tiles(self.source, folder, end.size)
        if len(entries) != end.size or tree.root(end.size) != end.root:
            self._find_difference(log, entries, published[0])
            raise Fault("tree_root", f"the entries do not make the root of size {end.size}")
        for level, hashes in enumerate(published):
            same = hashes == tree.levels[8 * level][: len(hashes)]
            require(same, "tile", f"{folder}/tile/{level}: other hashes than the entries make")

    def _find_difference(self, log, entries, published):
        difference = tiles.first_difference(entries, published)
        if difference:
            index, code = difference
            self._find(code, "not the entry that the tree has here", log, index)

    def _replay(self, log, entries):
        replay = Replay(self.chain, log, self.succession)
        self.succession.replays[log] = replay
        faults = self.verifier.faults(entries, self.chain.federation)
        for index, fault in enumerate(faults):
            if fault:
                self._find(fault.code, fault.what, log, index)
        try:
            replay.run(entries, faults)
        except LogFault as fault:
            if fault.index is None or not faults[fault.index]:
                self._find(fault.code, fault.what, log, fault.index)
        except Waits as waits:
            self._find("waits", str(waits), log)
        return replay

    def _check_end(self, log, replay, end, cut, note):
        """Checks that a cut log ends as the cut says, and that quorums cosigned the head of any other log."""
        if replay.size != end.size:
            return
        if cut is not None:
            found = (replay.root, replay.adopted)
            same = found == (cut.state_root, cut.adopted)
            require(same, "cut", "the state or the adopted version at the cut is another")
            self.certified[log] = True
            return
        self.certified[log] = True
        if replay.adopted < self.chain.adopted_min(log, len(self.chain)):
            self.certified[log] = False
            self._find("head_outdated", f"size {end.size} is of the time of version {replay.adopted}", log)
        for number in certifying(self.chain, log, *replay.adoptions[-1], end.size):
            version = self.chain[number]
            cosigners = signed.cosigners(note, version.node_keys())
            if len(cosigners) < version.quorum():
                self.certified[log] = False
                missing = f"{len(cosigners)} of {version.quorum()} of version {number}"
                self._find("quorum", f"{missing} cosigned size {end.size}", log)

    def _check_policy(self):
        raw = self.source.get("log/policy")
        require(raw is not None, "file_missing", "log/policy")
        check_policy(raw, self.chain)

    def _check_notes(self):
        """Checks the notes that the entries name; a note may be missing."""
        named = [
            (log, index, commitment)
            for log, replay in self.succession.replays.items()
            for index, commitment in replay.notes
        ]
        paths = [f"note/{commitment.hex()}" for _, _, commitment in named]
        self.notes["named"] = len(named)
        for (log, index, commitment), raw in zip(named, get_all(self.source, paths), strict=True):
            if raw is None:
                continue
            self.notes["present"] += 1
            if note_hash(raw) != commitment:
                self._find("note", "another text than the entry names", log, index)
                continue
            try:
                parse_note(raw)
            except Fault as fault:
                self._find("note", str(fault), log, index)
