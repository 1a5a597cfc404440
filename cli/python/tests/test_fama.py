"""The module `fama` against the vectors that all of Fama's software is tested with."""

import json
import unittest
from pathlib import Path

import fama

VECTORS = Path(__file__).parents[3] / "tests" / "vectors"


def load(name):
    return json.loads((VECTORS / name).read_text())


def code_of(check, *args, **more):
    try:
        check(*args, **more)
    except fama.FamaError as error:
        assert error.message and str(error) == f"{error.code}: {error.message}"
        return error.code
    return "ok"


def verified(one, proof=None):
    required = dict(one["required"])
    given = {"about": required.pop("question"), "max_age": required.pop("max_age_seconds")}
    given |= {"missing": required.pop("missing_max"), "now": required.pop("now")}
    assert not required
    return fama.Federation(one["manifest"]).verify_profile(one["proof"] if proof is None else proof, **given)


class Profiles(unittest.TestCase):
    def test_what_holds_shows_what_it_should(self):
        shown = 0
        for one in load("profiles.json"):
            if one["type"] != "profile":
                continue
            found, wanted = verified(one), one["shows"]
            self.assertEqual((found["proven"], found["kind"]), (True, "profile"))
            self.assertEqual(found["question"], wanted["question"])
            self.assertEqual(found["manifest_version"], wanted["manifest_version"])
            self.assertEqual([[log["log"], log["size"], log["adopted"]] for log in found["logs"]], wanted["logs"])
            self.assertEqual(found["found"], "status" in wanted)
            if not found["found"]:
                self.assertNotIn("agent", found)
                continue
            agent = found["agent"]
            for name in ("id", "status", "suspension"):
                self.assertEqual(agent[name], wanted[name])
            self.assertEqual([agent["karma"]["sum"], agent["karma"]["count"]], wanted["karma"])
            self.assertEqual([key["key"] for key in agent["keys"]], wanted["keys"])
            self.assertTrue(agent["did"].startswith(f"did:agent:{wanted['home']}:"))
            shown += 1
        self.assertGreater(shown, 5)

    def test_what_does_not_is_refused_with_the_same_code(self):
        refused = [one for one in load("profiles.json") if one["type"] == "invalid profile"]
        self.assertGreater(len(refused), 10)
        for one in refused:
            with self.subTest(one["why"]):
                self.assertEqual(code_of(verified, one), one["code"])

    def test_a_changed_file_is_refused_or_shows_the_same(self):
        one = next(one for one in load("profiles.json") if one["type"] == "profile")
        shown, proof, refused = verified(one), one["proof"].encode(), 0
        tried = range(0, len(proof), 61)
        for at in tried:
            changed = proof[:at] + bytes([proof[at] ^ 1 << at % 7]) + proof[at + 1 :]
            try:
                found = verified(one, changed.decode())
            except fama.FamaError:
                refused += 1
            else:
                self.assertEqual(found["agent"], shown["agent"])
        self.assertGreater(refused, len(tried) * 0.9)


class Entries(unittest.TestCase):
    """The federation of the vectors for manifests is that of those for events and entries."""

    def setUp(self):
        self.federation = fama.Federation(load("manifests.json")[0]["note"])

    def test_events(self):
        events = load("events.json")
        # So many that they are verified in batches, and in several pieces.
        found = self.federation.verify_entries([bytes.fromhex(one["entry"]) for one in events] * 400)
        self.assertEqual(len(found), 400 * len(events))
        for entry, one in zip(found, events * 400, strict=True):
            wanted = {"time": one["time"], "event": one["id"], "text": one["text"], "signer": one["signer"]}
            self.assertEqual(entry, wanted)

    def test_one_bad_entry_among_many(self):
        good = bytes.fromhex(load("events.json")[0]["entry"])
        bad = good[:-1] + bytes([good[-1] ^ 1])
        entries = [good] * 5_000
        for at in (0, 2_047, 2_048, 4_999):
            entries[at] = bad
        found = self.federation.verify_entries(entries)
        self.assertEqual([at for at, entry in enumerate(found) if "error" in entry], [0, 2_047, 2_048, 4_999])
        self.assertEqual(len({entry["text"] for entry in found if "text" in entry}), 1)

    def test_what_is_refused_has_the_same_code(self):
        refused = [one for one in load("invalid.json") if one["type"] == "invalid entry"]
        self.assertGreater(len(refused), 5)
        for one, entry in zip(refused, self.federation.verify_entries([bytes.fromhex(one["input"]) for one in refused])):
            with self.subTest(one["why"]):
                self.assertEqual(entry, {"error": one["code"]})

    def test_signatures(self):
        keys = load("keys.json")
        good = [(one["public"], one["message"].encode(), bytes.fromhex(one["signature"])) for one in keys]
        self.assertEqual(fama.verify_signatures(good * 30), [None] * (30 * len(good)))
        key, message, signature = good[0]
        changed = [
            (key, message + b"!", signature),
            (key, message, signature[:-1] + bytes([signature[-1] ^ 1])),
            (key, message, signature[:-1]),
            (good[-1][0], message, signature),
            ("secp256k1:" + "00" * 33, message, signature),
        ]
        codes = fama.verify_signatures(good + changed + good)
        self.assertEqual(codes[: len(good)] + codes[-len(good) :], [None] * (2 * len(good)))
        wanted = ["signature_mismatch", "signature_recovery_id", "signature_malformed", "signature_malformed"]
        self.assertEqual(codes[len(good) : -len(good)], [*wanted, "key_not_on_curve"])


class Federations(unittest.TestCase):
    def test_ids_and_versions(self):
        one = load("manifests.json")[0]
        federation = fama.Federation(one["note"])
        self.assertEqual((federation.id, federation.version), (one["federation"], 1))

    def test_no_manifest(self):
        self.assertEqual(code_of(fama.Federation, "no manifest"), "manifest_note")


if __name__ == "__main__":
    unittest.main()
