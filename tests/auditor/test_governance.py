"""Versions, cuts and successions of tests/vectors/governance.json; `test_vectors` also runs these tests."""

import unittest

from .join import Join
from .log import Replay
from .manifest import Log
from .succession import Succession
from .tree import Tree, leaf_hash
from .vectors import chain_of, code_of, expected_rows, faults_of, load, raw, replayed, rows_of

# For operators only: an auditor has every entry and needs neither.
NOT_FOR_AUDITORS = {"stand", "invalid stand", "equivocation", "invalid equivocation"}


class Governance(unittest.TestCase):
    def setUp(self):
        self.found = {}
        for one in load("governance.json"):
            self.found.setdefault(one["type"], []).append(one)
        self.text = self.found["chain"][0]["chain"]
        self.chain = chain_of(self.text)
        self.logs = {Log(one["operator"], one["generation"]): one for one in self.found["log"]}

    def _succession(self):
        """All logs, replayed in an order of their own."""
        succession = Succession(self.chain)
        for log in succession.order():
            if log in self.logs:
                entries = self._entries(log)
                replay = succession.replays[log] = replayed(succession, log, entries)
                replay.tree_root = Tree([leaf_hash(entry) for entry in entries]).root(len(entries))
        return succession

    def _entries(self, log):
        return [raw(entry) for entry in self.logs[log]["entries"]]

    def test_nothing_is_left_out(self):
        tried = {"chain", "log", "row", "state", "invalid chain", "invalid batch"}
        self.assertEqual(set(self.found), tried | NOT_FOR_AUDITORS)

    def test_versions(self):
        succession = Succession(self.chain)
        for one in self.found["chain"][0]["versions"]:
            version = self.chain[one["version"]]
            self.assertEqual((version.hash, version.quorum()), (raw(one["hash"]), one["quorum"]))
            homes = sorted([home, str(log)] for home, log in version.homes.items())
            self.assertEqual(homes, one["homes"])
            for owner, log in one["records"]:
                carrier = succession.carrier(f"statements/{owner}", one["version"])
                self.assertEqual(str(carrier), log)

    def test_logs(self):
        succession = self._succession()
        for log, one in self.logs.items():
            replay = succession.replays[log]
            head = (one["size"], raw(one["root"]), raw(one["state_root"]))
            self.assertEqual(replay.head(), head)
            self.assertEqual(replay.adoptions, [tuple(adopted) for adopted in one["adopted"]])
            outcomes = [outcome for batch in one["outcomes"] for outcome in batch]
            self.assertEqual(replay.outcomes, outcomes)
        self.assertEqual(Join(succession).state_id(), raw(self.found["state"][0]["state_id"]))
        self.assertEqual(rows_of(succession), expected_rows(self.found["row"]))

    def test_invalid_chains(self):
        notes = ["format" + part for part in self.text.split("format")[1:]]
        for one in self.found["invalid chain"]:
            with self.subTest(one["why"]):
                text = "".join(notes[: one["behind"]]) + one["note"]
                self.assertEqual(code_of(chain_of, text), one["code"])

    def test_invalid_batches(self):
        for one in self.found["invalid batch"]:
            with self.subTest(one["why"]):
                log = Log(one["operator"], one["generation"])
                before = self._entries(log)[: one["behind"]]
                entries = before + [raw(entry) for entry in one["entries"]]
                succession = self._succession()
                del succession.replays[log]
                replay = Replay(self.chain, log, succession)
                code = code_of(replay.run, entries, faults_of(entries, self.chain))
                self.assertEqual((code, replay.size), (one["code"], one["behind"]))
