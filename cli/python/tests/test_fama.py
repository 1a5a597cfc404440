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
        code, reason = error.args
        assert reason
        return code
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


class Federations(unittest.TestCase):
    def test_ids_and_versions(self):
        one = load("manifests.json")[0]
        federation = fama.Federation(one["note"])
        self.assertEqual((federation.id, federation.version), (one["federation"], 1))

    def test_no_manifest(self):
        self.assertEqual(code_of(fama.Federation, "no manifest"), "manifest_note")


if __name__ == "__main__":
    unittest.main()
