"""Every file of tests/vectors against this implementation; run by `python3 -m unittest` in tests/."""

import unittest

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from . import bounds, curve, event, keys, note, profile, signed
from .fault import Fault
from .join import Join
from .log import LogFault, Replay, Waits
from .manifest import Chain, Log, parse_manifest
from .mapproof import check_map_proof, check_range_proof
from .maps import Map
from .proof import check_inclusion, parse_proof
from .succession import Succession
from .test_governance import Governance  # noqa: F401, so that it runs with these
from .tree import Tree, leaf_hash
from .vectors import (
    READ, VECTORS, chain_of, code_of, expected_rows, faults_of, load, raw, replayed, rows_of,
)


class Value:
    """A row's value as bytes."""

    def __init__(self, encoded):
        self.encoded = encoded

    def encode(self):
        return self.encoded


def pairs_of(rows):
    return [(raw(key), raw(value)) for key, value in rows]


def answers_of(one):
    return [(raw(prefix), pairs_of(rows)) for prefix, rows in one["answers"]]


def genesis(text):
    return Chain(parse_manifest(text.encode()))


class Vectors(unittest.TestCase):
    def test_keys(self):
        for one in load("keys.json"):
            key = keys.parse_key(one["public"])
            self.assertEqual((key.curve, key.hash()), (one["curve"], raw(one["hash"])))
            signature = keys.Signature(key.curve, raw(one["signature"]))
            keys.verify(key, one["message"].encode(), signature)
            self.assertEqual(code_of(keys.verify, key, b"other", signature), "signature_mismatch")

    def test_events(self):
        kinds = set()
        for one in load("events.json"):
            text = one["text"].encode()
            said = event.parse_event(text)
            kinds.add(said.kind)
            self.assertEqual((said.kind, event.show_event(said)), (one["kind"], text))
            self.assertEqual(event.event_id(text), raw(one["id"]))
            entry = event.decode_entry(raw(one["entry"]))
            self.assertEqual((entry.time, entry.body.event), (one["time"], said))
            self.assertEqual(entry.body.signer.text(), one["signer"])
            self.assertEqual(entry.body.signature.raw, raw(one["signature"]))
            self.assertEqual(event.encode_entry(entry), raw(one["entry"]))
            self.assertEqual(leaf_hash(raw(one["entry"])), raw(one["leaf"]))
            self.assertEqual(event.check_entries([raw(one["entry"])], said.federation), [None])
        self.assertEqual(kinds, set(event.KINDS))

    def test_notes(self):
        for one in load("notes.json"):
            note.parse_note(one["text"].encode())
            self.assertEqual(note.note_hash(one["text"].encode()), raw(one["hash"]))

    def test_maps(self):
        of_type = {}
        for one in load("maps.json"):
            of_type.setdefault(one["type"], []).append(one)
        self.assertEqual(set(of_type), {"map", "map proof", "range proof", "invalid map proof"})
        for one in of_type["map"]:
            for order in (one["rows"], one["rows"][::-1]):
                held = Map()
                for key, value in order:
                    held.put(raw(key), Value(raw(value)))
                    held.root()
                self.assertEqual(held.root(), raw(one["root"]))
        for one in of_type["map proof"]:
            self._proves(check_map_proof, one, answers_of(one))
        for one in of_type["range proof"]:
            shown = raw(one["start"]), pairs_of(one["rows"])
            self.assertEqual(self._proves(check_range_proof, one, *shown), one["ends"])
        for one in of_type["invalid map proof"]:
            with self.subTest(one["why"]):
                refused = code_of(check_map_proof, raw(one["root"]), raw(one["proof"]), answers_of(one))
                self.assertEqual(refused, one["code"])

    def _proves(self, check, one, *shown):
        """Each proof shows what its vector says, and fails with any bit flipped."""
        root, proof = raw(one["root"]), raw(one["proof"])
        for at in range(8 * len(proof)):
            flipped = bytearray(proof)
            flipped[at // 8] ^= 1 << at % 8
            self.assertNotEqual(code_of(check, root, bytes(flipped), *shown), "ok", at)
        return check(root, proof, *shown)

    def test_profiles(self):
        for one in load("profiles.json"):
            proof, required = one["proof"].encode(), profile.Required(**one["required"])
            if one["type"] == "profile":
                self.assertEqual(profile.verify(proof, chain_of(one["manifest"]), required), one["shows"])
                self._flipped(one, proof, required)
            else:
                with self.subTest(one["why"]):
                    refused = code_of(profile.verify, proof, chain_of(one["manifest"]), required)
                    self.assertEqual(refused, one["code"])

    def _flipped(self, one, proof, required):
        """A changed file is refused, or shows the same: changed white space, or without a surplus cosigner."""
        refused = 0
        for at in range(0, len(proof), 61):
            flipped = proof[:at] + bytes([proof[at] ^ 1 << at % 7]) + proof[at + 1 :]
            try:
                shows = profile.verify(flipped, chain_of(one["manifest"]), required)
            except Fault:
                refused += 1
            else:
                self.assertEqual(shows | {"as_of": None}, one["shows"] | {"as_of": None}, at)
        self.assertGreater(refused, len(proof) // 61 * 9 // 10)

    def test_manifests(self):
        for one in load("manifests.json"):
            chain = genesis(one["note"])
            self.assertEqual(chain.federation, raw(one["federation"]))
            self.assertEqual(chain[1].quorum(), one["quorum"])
            self.assertEqual(chain.origin(Log("alpha.example", 1)), one["origin"])

    def test_checkpoints(self):
        chain = genesis(load("manifests.json")[0]["note"])
        for one in load("checkpoints.json"):
            if one["type"] == "checkpoint":
                head, cosigners = open_checkpoint(chain, one["note"])
                self.assertEqual(head.size, one["size"])
                self.assertEqual(sorted(cosigners), one["cosigners"])
            else:
                check_proof(chain, one["proof"], raw(one["entry"]))
                self.assertEqual(parse_proof(one["proof"].encode()).index, one["index"])

    def test_logs(self):
        found = load("logs.json")
        chain = genesis(found[-1]["manifest"])
        succession = Succession(chain)
        self.assertEqual(Join(succession).state_id(), raw(found[-1]["empty_state_id"]))
        for one in found:
            if one["type"] == "log":
                self._log(succession, one)
        self.assertEqual(Join(succession).state_id(), raw(found[-1]["state_id"]))
        self.assertEqual(rows_of(succession), expected_rows(found))

    def _log(self, succession, one):
        entries = [raw(entry) for entry in one["entries"]]
        log = Log(one["operator"], one["generation"])
        replay = succession.replays[log] = replayed(succession, log, entries)
        replay.tree_root = Tree([leaf_hash(entry) for entry in entries]).root(len(entries))
        self.assertEqual(replay.head(), (one["size"], raw(one["root"]), raw(one["state_root"])))
        outcomes = [outcome for batch in one["outcomes"] for outcome in batch]
        self.assertEqual(replay.outcomes, outcomes)

    def test_invalid(self):
        chain = genesis(load("manifests.json")[0]["note"])
        entry = raw(load("checkpoints.json")[1]["entry"])
        refuse = {
            "invalid event": lambda text: event.parse_event(text.encode()),
            "invalid note": lambda text: note.parse_note(text.encode()),
            "invalid entry": lambda digits: one_entry(chain, raw(digits)),
            "invalid manifest": genesis,
            "invalid checkpoint": lambda text: open_checkpoint(chain, text),
            "invalid proof": lambda text: check_proof(chain, text, entry),
            "invalid batch": lambda digits: batch(chain, digits),
        }
        for one in load("invalid.json"):
            with self.subTest(one["why"]):
                self.assertEqual(code_of(refuse[one["type"]], one["input"]), one["code"])

    def test_invalid_logs(self):
        federations = {}
        for one in load("invalid-logs.json"):
            if one["type"] == "manifest":
                federations[one["name"]] = genesis(one["note"])
                continue
            with self.subTest(one["why"]):
                chain = federations[one["federation"]]
                found = {"code": "valid", "index": None, "taken": 0}
                replay = Replay(chain, Log("alpha.example", 1), Succession(chain))
                entries = list(expand(one["entries"]))
                try:
                    replay.run(entries, faults_of(entries, chain))
                except LogFault as fault:
                    found |= {"code": fault.code, "index": fault.index}
                except Waits:
                    found["code"] = "unheld"
                found["taken"] = replay.size
                wanted = {"code": one["code"], "index": one.get("index"), "taken": one["taken"]}
                if "index" not in one:
                    found["index"] = None
                self.assertEqual(found, wanted)

    def test_ed25519_matrix(self):
        for one in load("ed25519-matrix.json"):
            with self.subTest(one["why"]):
                key = keys.Key("ed25519", raw(one["public"]))
                self.assertEqual(code_of(keys.check_key, key), one["check"])
                if one["type"] == "signature":
                    signature = keys.Signature("ed25519", raw(one["signature"]))
                    verified = code_of(keys.verify, key, raw(one["message"]), signature)
                    self.assertEqual(verified, one["verify"])


class Wycheproof(unittest.TestCase):
    """Project Wycheproof's verdicts; signatures that the ledger's form cannot hold are sorted out before."""

    def test_ed25519(self):
        for group, one in wycheproof("ed25519_test.json"):
            key = keys.Key("ed25519", raw(group["publicKey"]["pk"]))
            held = holds(key, one, keys.Signature("ed25519", raw(one["sig"])))
            self.assertEqual(held, one["result"] == "valid", one)

    def test_ecdsa_p1363(self):
        for group, one in wycheproof("ecdsa_secp256k1_sha256_p1363_test.json"):
            signature = raw(one["sig"])
            r, s = signature[:32], int.from_bytes(signature[32:], "big")
            self.assertEqual(holds_with_some_id(group, one, r, s, True), one["result"] == "valid", one)

    def test_ecdsa_der(self):
        self._der("ecdsa_secp256k1_sha256_test.json", True)

    def test_ecdsa_der_low_s(self):
        self._der("ecdsa_secp256k1_sha256_bitcoin_test.json", False)

    def _der(self, name, high_s):
        for group, one in wycheproof(name):
            try:
                r, s = decode_dss_signature(raw(one["sig"]))
                r = r.to_bytes(32, "big")
            except (ValueError, OverflowError):
                self.assertEqual(one["result"], "invalid", one)
                continue
            held = holds_with_some_id(group, one, r, s, high_s)
            self.assertEqual(held, one["result"] == "valid", one)


def wycheproof(name):
    for group in load(f"wycheproof/{name}")["testGroups"]:
        for one in group["tests"]:
            yield group, one


def holds(key, one, signature):
    if len(signature.raw) != keys.SIGNATURE_BYTES[key.curve]:
        return False
    return code_of(keys.verify, key, raw(one["msg"]), signature) == "ok"


def holds_with_some_id(group, one, r, s, high_s):
    """Whether one of the four recovery ids makes it valid in the ledger; never do two."""
    s = curve.N - s if high_s and curve.N // 2 < s < curve.N else s
    if len(r) != 32 or not 0 <= s < 1 << 256:
        return False
    point = raw(group["publicKey"]["uncompressed"])
    key = keys.Key("secp256k1", bytes([2 + (point[64] & 1)]) + point[1:33])
    tries = [r + s.to_bytes(32, "big") + bytes([number]) for number in range(5)]
    held = sum(holds(key, one, keys.Signature("secp256k1", signature)) for signature in tries)
    assert held < 2
    return held == 1


def open_checkpoint(chain, text):
    """As read by a reader that takes the log's name from the text."""
    parsed = signed.parse_signed(text.encode(), bounds.CHECKPOINT_BYTES_MAX)
    origin, _ = signed.parse_checkpoint(parsed.text)
    logs = {chain.origin(log): log for log in chain.born}
    if origin not in logs:
        raise Fault("checkpoint_unknown_origin", origin)
    head = signed.open_checkpoint(parsed, origin, chain.node_keys[logs[origin]])
    operators = {one.name: one.node_key for one in chain[1].operators.values()}
    return head, signed.cosigners(parsed, operators)


def check_proof(chain, text, entry):
    proof = parse_proof(text.encode())
    head, _ = open_checkpoint(chain, proof.checkpoint.decode())
    check_inclusion(proof, entry, head)


def one_entry(chain, encoded):
    fault = event.check_entries([encoded], chain.federation)[0]
    if fault:
        raise fault


def batch(chain, digits):
    """A batch after the log's first one."""
    begin = [raw(entry) for entry in load("logs.json")[0]["entries"][:2]]
    entries = begin + [raw(entry) for entry in digits.split(",")]
    replayed(Succession(chain), Log("alpha.example", 1), entries)


def expand(entries):
    """`count*entry` is the entry repeated `count` times."""
    for entry in entries:
        count, star, digits = entry.rpartition("*")
        yield from [raw(digits)] * (int(count) if star else 1)


def tearDownModule():
    """Fails if no test read some file, and so also if only some tests run."""
    there = {str(path.relative_to(VECTORS)) for path in VECTORS.rglob("*.json")}
    # What a node stores and sends to other nodes, and the tokens that stand in no log: no auditor reads them.
    there = {name for name in there if not name.startswith("upgrade/") and name != "tokens.json"}
    missing = there - READ
    assert not missing, f"not read: {sorted(missing)}"


if __name__ == "__main__":
    unittest.main()
