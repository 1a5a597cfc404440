"""Texts, keys and signatures, against the golden vectors of the ledger."""

from __future__ import annotations

import base64
import json
import unittest
from collections.abc import Callable

from federation import VECTORS, new_key
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from fama_client import FamaError, PublicKey, Signer, event_text, note_hash, note_text, sign_event
from fama_client.keys import decode_base64
from fama_client.times import read_time

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def code(call: Callable[[], object]) -> str:
    try:
        call()
    except FamaError as error:
        return error.code
    return "accepted"


def key_of(text: str) -> PublicKey:
    curve, _, hexed = text.partition(":")
    if curve == "ed25519":
        return PublicKey(ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(hexed)))
    return PublicKey(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), bytes.fromhex(hexed)))


def fields_of(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.splitlines()[1:])


class Texts(unittest.TestCase):
    def test_every_vector_is_built_byte_by_byte(self) -> None:
        vectors = json.loads((VECTORS / "events.json").read_text())
        kinds = set()
        for vector in vectors:
            fields = fields_of(vector["text"])
            kind, federation = fields.pop("kind"), fields.pop("federation")
            times = {name: fields.pop(name) for name in ("created", "nonce")}
            built = event_text(kind, {**reversed_order(fields)}, federation=federation, **times)
            self.assertEqual(built, vector["text"])
            key = key_of(vector["signer"])
            self.assertEqual(key.text, vector["signer"])
            key.check(built.encode(), bytes.fromhex(vector["signature"]))
            self.assertEqual(code(lambda: key.check(b"x", bytes.fromhex(vector["signature"]))), "bad_signature")
            kinds.add(kind)
        self.assertEqual(len(kinds), 11, "each kind has a vector")

    def test_every_note_is_built_byte_by_byte(self) -> None:
        notes = json.loads((VECTORS / "notes.json").read_text())
        said = 0
        for note in notes:
            fields = fields_of(note["text"])
            if len(fields) > 1:
                self.assertEqual(note_text(**fields), note["text"])
                said += 1
            self.assertEqual(note_hash(note["text"]), f"sha256:{note['hash']}")
        self.assertGreaterEqual(said, 3)
        self.assertIsNone(note_text(), "a note that says nothing is left out")

    def test_values_that_no_ledger_takes_are_refused(self) -> None:
        good: dict[str, str | int | None] = {"home": "a.example", "issuer": "1" * 64, "subject": "2" * 64, "delta": 5}
        federation = "a" * 64

        def attest(**change: str | int | None) -> str:
            return code(lambda: event_text("attest", {**good, **change}, federation=federation))

        self.assertEqual(attest(), "accepted")
        for change in (
            {"delta": 2**31}, {"delta": "+5"}, {"delta": "05"}, {"delta": "-0"}, {"home": "nodots"}, {"home": "A.example"},
            {"home": "a..example"}, {"issuer": "A" * 64}, {"issuer": "1" * 63}, {"context": "Code"},
            {"context": "x\nnonce: 0"}, {"context": "c" * 33}, {"note": "sha256:00"}, {"context": ""}, {"delta": "٣"},
        ):  # fmt: skip
            self.assertEqual(attest(**change), "bad_value", change)
        self.assertEqual(attest(subject=None), "missing_field")
        self.assertEqual(attest(name="x"), "unknown_field")
        for bad in ("2026-02-30T00:00:00.000Z", "2026-02-20T00:00:00Z", "2019-12-31T00:00:00.000Z"):
            build = lambda bad=bad: event_text("attest", good, federation=federation, created=bad)  # noqa: E731
            self.assertEqual(code(build), "bad_value", bad)
        for bad_note in ({"bio": " x"}, {"bio": "a\nb"}, {"reason": "é" * 101}, {"ref": "r" * 513}, {"bio": "b" * 1024},
                         {"bio": "\u202e"}, {"bio": "x", "reason": "y"}, {"reason": ""}):  # fmt: skip
            self.assertEqual(code(lambda: note_text(**bad_note)), "bad_value", bad_note)

    def test_times_are_strict(self) -> None:
        self.assertEqual(read_time("2026-11-22T05:00:00Z"), read_time("2026-11-22T05:00:00.000Z"))
        for bad in ("2026-11-22T05:00:00+00:00", "2026-11-22 05:00:00Z", "2026-11-22t05:00:00Z", "2026-11-22T05:00:00z",
                    "2026-11-22T05:00:00.00Z", "2026-11-22T05:00:00.000000Z", "2026-02-30T00:00:00Z", "1795323600", "",
                    "2026-11-22T05:00:60Z", "2026-11-22T24:00:00Z", "2026-11-22T05:00:00Z\n", "２026-11-22T05:00:00Z"):  # fmt: skip
            self.assertIsNone(read_time(bad), bad)


def reversed_order(fields: dict[str, str]) -> dict[str, str | int | None]:
    return dict(reversed(fields.items()))


class Signatures(unittest.TestCase):
    def test_every_spelling_is_one_signature(self) -> None:
        lengths = set()
        for _ in range(100):
            key, message = new_key(), b"swift2026-11-22T05:00:00Zhello"
            der = key.sign(message)
            lengths.add(len(der))
            r, s = decode_dss_signature(der)
            forms = []
            for scalar in (s, ORDER - s):
                raw = r.to_bytes(32, "big") + scalar.to_bytes(32, "big")
                forms += [encode_dss_signature(r, scalar), raw, raw + b"\x01"]
            self.assertEqual(len({key.public.check(message, form) for form in forms}), 1)
            self.assertEqual(code(lambda: key.public.check(message + b"!", der)), "bad_signature")
            self.assertEqual(code(lambda: new_key().public.check(message, der)), "bad_signature")
        self.assertTrue(lengths & {70, 71, 72})
        public = new_key().public
        for bad in (b"", b"hello", b"\x00" * 64, b"\xff" * 64, b"\x30" * 66):
            self.assertEqual(code(lambda: public.check(b"x", bad)), "bad_signature_form", bad)
        edwards = new_key("ed25519")
        self.assertEqual(code(lambda: edwards.public.check(b"x", edwards.sign(b"x")[:63])), "bad_signature_form")
        self.assertEqual(code(lambda: edwards.public.check(b"y", edwards.sign(b"x"))), "bad_signature")

    def test_base64_in_either_alphabet(self) -> None:
        raw = bytes(range(250, 256)) * 11 + b"\xfb"
        standard = base64.b64encode(raw).decode()
        url = base64.urlsafe_b64encode(raw).decode()
        self.assertIn("=", standard)
        for text in (standard, url, standard.rstrip("="), url.rstrip("="), f"{standard[:60]}\r\n{standard[60:]}\n"):
            self.assertEqual(decode_base64(text), raw, text)
        for bad in ("????", "+-AA", "A", "AB", "AAA==", "AA=A", "A" * 4097, "\u0660AAA"):
            self.assertIsNone(decode_base64(bad), bad)

    def test_keys(self) -> None:
        for curve in ("secp256k1", "ed25519"):
            key = new_key(curve)
            event = sign_event("text\n", key)
            key.public.check(b"text\n", base64.b64decode(event.signature))
        self.assertEqual(code(lambda: PublicKey.from_pem("nonsense")), "bad_key")
        self.assertEqual(code(lambda: Signer.from_pem("nonsense")), "bad_key")
        stranger = new_key()
        liar = Signer(new_key().public, stranger.sign)
        self.assertEqual(code(lambda: liar.signature(b"x")), "bad_signature")


if __name__ == "__main__":
    unittest.main()
