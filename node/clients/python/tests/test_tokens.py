"""Tokens and manifests, offline: the vectors of the protocol, and what a reader must not take."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import time
import unittest
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from federation import VECTORS

from fama_client import (
    FamaError,
    Manifest,
    PublicKey,
    call_subject,
    check_access_token,
    check_agent_call,
    check_delegation,
    check_dpop,
)
from fama_client.keys import decode_base64url, encode_base64url, load_ed25519, verify_ed25519
from fama_client.manifest import MANIFEST_BYTES_MAX, blake3

Vector = dict[str, Any]


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


def code_of(call: Callable[..., object], *given: object, **named: object) -> str:
    """The code of its error; `ok` without one."""
    try:
        call(*given, **named)
    except FamaError as error:
        return error.code
    return "ok"


def secret(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def shown(seed: int) -> str:
    return f"ed25519:{secret(seed).public_key().public_bytes_raw().hex()}"


def signed(text: str, *by: tuple[str, int]) -> str:
    """A signed note, by these names with the keys of these seeds."""
    lines = ""
    for name, seed in by:
        public = secret(seed).public_key().public_bytes_raw()
        key_id = hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
        lines += f"— {name} {base64.b64encode(key_id + secret(seed).sign(text.encode())).decode()}\n"
    return f"{text}\n{lines}"


def version(before: Manifest | None, operators: list[dict[str, object]], cuts: list[dict[str, object]]) -> str:
    """The text of the version after those of `before`: not canonical, but with all that is read of it."""
    head: dict[str, object] = {"format": "fama.manifest/1", "name": "test", "version": 1}
    if before:
        number = before.newest.number + 1
        head |= {"version": number, "federation": before.federation, "previous": before.newest.hash}
    tables = [("", head), *(("[[operators]]\n", one) for one in operators), *(("[[cuts]]\n", one) for one in cuts)]
    lines = ("".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items()) for _, table in tables)
    return "\n".join(title + text for (title, _), text in zip(tables, lines, strict=True))


class Tokens(unittest.TestCase):
    def setUp(self) -> None:
        first, *self.vectors = load("tokens.json")
        self.assertEqual(first.pop("type"), "federation")
        self.manifest = Manifest.read(first.pop("manifest"))
        self.assertFalse(first)

    def check(self, kind: str, vector: Vector) -> Any:
        """Takes what it uses out of the vector."""
        take, federation = vector.pop, self.manifest.federation
        match kind:
            case "access token":
                return check_access_token(
                    take("token"), manifest=self.manifest, issuers=take("issuers"), audience=take("audience"),
                    now=take("now"),
                )  # fmt: skip
            case "delegation":
                key = PublicKey.from_text(take("key"))
                return check_delegation(take("token"), did=take("did"), key=key, federation=federation, now=take("now"))
            case "agent call":
                return check_agent_call(
                    take("token"), agent=take("agent"), federation=federation, audience=take("audience"), now=take("now")
                )
            case "dpop proof":
                proof, url = take("proof"), take("uri")
                return check_dpop(proof, method=take("method"), url=url, token=take("token"), now=take("now"))
        self.fail(f"a vector of the kind {kind}")

    def test_vectors(self) -> None:
        passed, refused = 0, set()
        for vector in self.vectors:
            kind, name = vector.pop("type"), vector.pop("name")
            wanted = {outcome: vector.pop(outcome) for outcome in ("ok", "error") if outcome in vector}
            with self.subTest(kind, name=name):
                found: dict[str, object]
                try:
                    found = {"ok": json.loads(json.dumps(dataclasses.asdict(self.check(kind, vector))))}
                except FamaError as error:
                    self.assertEqual(error.status, 401)
                    found = {"error": error.code}
                self.assertEqual(found, wanted)
                self.assertFalse(vector, "all members of the vector were used")
                passed += "ok" in wanted
                refused.add(wanted.get("error"))
        self.assertGreaterEqual(passed, 20)
        self.assertEqual(len(refused - {None}), 19, refused)

    def test_a_changed_token_is_none(self) -> None:
        vector = next(one for one in self.vectors if one["type"] == "access token" and "ok" in one)
        token, given = vector["token"], {name: vector[name] for name in ("issuers", "audience", "now")}
        for at in range(len(token)):
            changed = token[:at] + chr(ord(token[at]) ^ 1 << at % 6) + token[at + 1 :]
            found = code_of(check_access_token, changed, manifest=self.manifest, **given)
            self.assertNotEqual(found, "ok", changed)

    def test_one_issuer_is_no_list(self) -> None:
        with self.assertRaises(TypeError):
            check_access_token("", manifest=self.manifest, issuers="https://auth.alpha.example", audience="", now=0)

    def test_a_token_has_its_scopes(self) -> None:
        vector = next(one for one in self.vectors if one["type"] == "access token" and "ok" in one)
        given = {name: vector[name] for name in ("issuers", "audience", "now")}
        token = check_access_token(vector["token"], manifest=self.manifest, **given)
        self.assertEqual(token.scopes, ("read:payments", "pay"))
        with self.assertRaises(dataclasses.FrozenInstanceError):
            token.karma = 1  # type: ignore[misc]


class Json(unittest.TestCase):
    """Read by `call_subject`, which checks a token's form and type, but no signature."""

    def subject(self, claims: str | bytes, header: str = '{"typ":"fama-agent+jwt"}') -> str:
        data = claims.encode() if isinstance(claims, str) else claims
        parts = [encode_base64url(part) for part in (header.encode(), data, b"signature")]
        return call_subject(".".join(parts))

    def test_what_is_read(self) -> None:
        lists = "[" * 126 + "]" * 126
        for more in ("1", "18446744073709551615", "-9223372036854775808", lists, '"\\ud83d\\ude00"', '{"a":{"a":1}}',
                     '"[[[{{{"', '"\\"["', '"é\\/"', "[true,false,null,\"\"]", ' \t\r\n"x" '):  # fmt: skip
            self.assertEqual(self.subject(f'{{"iss":"x","more":{more}}}'), "x", more)
        self.assertEqual(self.subject('{"iss":"x"}', '{"typ":"Application/FAMA-agent+JWT"}'), "x")

    def test_what_is_not(self) -> None:
        lists = "[" * 127 + "]" * 127
        for more in (
            "1.0", "1e3", "1E3", "-0", "00", "01", "+1", "18446744073709551616", "-9223372036854775809", "9" * 5_000,
            "0x1", "NaN", "Infinity", "-Infinity", lists, "[" * 9_000, '"\\ud83d"', '"\\ude00\\ud83d"',
            '"\\ud83d\\u0041"', '{"a":1,"a":1}', '[{"a":1,"\\u0061":1}]', '"\n"', '"\\x"', "'x'", "[1,]", "\u0661",
            "// no", "undefined",
        ):  # fmt: skip
            found = code_of(self.subject, f'{{"iss":"x","more":{more}}}')
            self.assertEqual(found, "jws_form", more[:50])
        for claims in (
            "", "null", "[]", '"x"', "{", '{"iss":"x"}}', '{"iss":"x"} x', "\ufeff{}", '{"iss":"x",}', b"\xff",
            b'{"iss":"\xff"}', '{"iss":"x"}'.encode("utf-16"), '{"iss":"x","iss":"x"}',
        ):  # fmt: skip
            self.assertEqual(code_of(self.subject, claims), "jws_form", claims)
        self.assertEqual(code_of(self.subject, "{}", '{"typ":"FAMA-AGENT+JWT","typ":"x"}'), "jws_form")
        self.assertEqual(code_of(self.subject, "{}", '{"typ":"fama-agent+jwt","crit":[]}'), "jws_header")
        # What comes first is what is said, as the node does.
        self.assertEqual(code_of(self.subject, "x", '{"typ":"fama-agent+jwt","crit":[]}'), "jws_header")
        self.assertEqual(code_of(self.subject, "x", '{"typ":"fama-agent+jwt","jwk":{}}'), "jws_form")
        self.assertEqual(code_of(call_subject, "é" * 8_193), "jws_too_long")
        self.assertEqual(code_of(call_subject, "\ud800" * 20), "jws_form")

    def test_what_is_long_takes_no_longer(self) -> None:
        begun = time.process_time()
        parts = ['"' + '\\"' * 5_900, "[" * 10_000, '"' * 10_000, "\\" * 10_000, '{"a":' * 2_000, "[" + '"",' * 3_000]
        for part in parts:
            self.assertEqual(code_of(self.subject, part), "jws_form")
        self.assertLess(time.process_time() - begun, 0.2)


class Keys(unittest.TestCase):
    def test_base64url(self) -> None:
        for size in range(70):
            data = bytes(range(size))
            self.assertEqual(decode_base64url(encode_base64url(data)), data)
        for text in ("A", "AAAAA", "AB", "AAB", "AA==", "A+", "A/", " AA", "AA\n", "ÀÀ"):
            self.assertIsNone(decode_base64url(text), text)

    def test_ed25519(self) -> None:
        for one in load("ed25519-matrix.json"):
            key = load_ed25519(bytes.fromhex(one["public"]))
            self.assertEqual(key is not None, one["check"] == "ok", one)
            if key and "verify" in one:
                holds = verify_ed25519(key, bytes.fromhex(one["message"]), bytes.fromhex(one["signature"]))
                self.assertEqual(holds, one["verify"] == "ok", one)

    def test_wycheproof(self) -> None:
        for group in load("wycheproof/ed25519_test.json")["testGroups"]:
            key = load_ed25519(bytes.fromhex(group["publicKey"]["pk"]))
            self.assertIsNotNone(key)
            for test in group["tests"]:
                holds = key and verify_ed25519(key, bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
                self.assertEqual(holds, test["result"] == "valid", test)

    def test_texts(self) -> None:
        for one in load("keys.json"):
            if text := one.get("public"):
                self.assertEqual(PublicKey.from_text(text).text, text)
        for bad in ("", "ed25519:" + "0" * 64, "ed25519:" + "f" * 64, "secp256k1:02" + "f" * 64, "p256:00", "ED25519:"):
            self.assertEqual(code_of(PublicKey.from_text, bad), "bad_key", bad)


class Manifests(unittest.TestCase):
    def setUp(self) -> None:
        self.vectors = load("governance.json")
        self.chain = next(one for one in self.vectors if one["type"] == "chain")
        self.notes = ["format" + part for part in self.chain["chain"].split("format")[1:]]

    def test_blake3(self) -> None:
        # Published with the reference implementation; the input is 0, 1, …, 250, 0, 1, …
        for length, wanted in {
            0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
            1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
            1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
            2048: "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
            3072: "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2",
            31744: "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
        }.items():
            self.assertEqual(blake3(bytes(i % 251 for i in range(length))).hex(), wanted, length)

    def test_versions(self) -> None:
        manifest = Manifest.read(self.chain["chain"])
        self.assertEqual(manifest.federation, self.chain["federation"])
        self.assertEqual(len(manifest.versions), len(self.chain["versions"]))
        for version, wanted in zip(manifest.versions, self.chain["versions"], strict=True):
            shown = (version.number, version.hash, version.quorum)
            self.assertEqual(shown, (wanted["version"], wanted["hash"], wanted["quorum"]))
        newest = manifest.newest
        logs = [f"{name}.example/1" for name in ("alpha", "beta")] + ["beta.example/2"]
        self.assertEqual(list(newest.logs), logs + [f"{name}.example/1" for name in ("delta", "epsilon", "gamma")])
        self.assertEqual(set(newest.ends), {"beta.example/1", "delta.example/1"})
        for one in load("manifests.json"):
            self.assertEqual(Manifest.read(one["note"]).federation, one["federation"])

    def test_invalid_versions(self) -> None:
        # What a quorum signs is not checked for these: no honest operator signs it.
        unchecked = {"manifest_succession", "manifest_canonical", "manifest_value"}
        count = 0
        for one in self.vectors:
            if one["type"] != "invalid chain":
                continue
            count += 1
            chain = "".join(self.notes[: one["behind"]]) + one["note"]
            found = code_of(Manifest.read, chain)
            if one["code"] in unchecked:
                self.assertIn(found, ("ok", one["code"], "manifest_signature"), one["why"])
            else:
                self.assertEqual(found, one["code"], one["why"])
        self.assertGreaterEqual(count, 40)

    def test_what_is_no_chain(self) -> None:
        first, second, third = self.notes
        for chain, code in (
            ("", "manifest_note"), ("\n" + first, "manifest_note"), (first + "\n" + second, "manifest_note"),
            (first + "x", "manifest_note"), (first.replace("— ", "- "), "manifest_note"),
            (first.replace("\n\n— ", "\n\n\t— "), "manifest_note"), (first[:-1], "manifest_note"),
            ("x" * (MANIFEST_BYTES_MAX + 1), "manifest_too_long"), ("a\n\n— x AAAAAAA=\n", "manifest_format"),
            (second, "manifest_version"), (first + third, "manifest_version"), (first + first, "manifest_version"),
            (first.replace("alpha.example", "alpha.exemple"), "manifest_signature"),
            (first + second.replace("version = 2", "version = 2\nprotocol = 2"), "manifest_protocol"),
            (first + second.replace("version = 2", "version = true"), "manifest_toml"),
            (first + second.replace("version = 2", "version = "), "manifest_toml"),
            (first + second.replace('generation = 1', 'generation = "1"', 1), "manifest_toml"),
            (first + second.replace('governance_key = "ed25519:', 'governance_key = "ed25518:', 1), "manifest_value"),
        ):  # fmt: skip
            self.assertEqual(code_of(Manifest.read, chain), code, chain[:60])

    def test_a_manifest_grows_only(self) -> None:
        first, second, third = self.notes
        manifest = Manifest.read(first)
        self.assertIs(manifest.extended(first).versions[0], manifest.versions[0])
        two = manifest.extended(first + second)
        self.assertEqual(two, Manifest.read(first + second))
        self.assertEqual(two.extended(first + second + third), Manifest.read(self.chain["chain"]))
        self.assertEqual(two.extended(first), two, "never an older one")
        # Other signatures of the same text are the same version.
        lines = second.split("\n")
        fewer = "\n".join(line for line in lines if not line.startswith("— alpha.example"))
        self.assertEqual(len(two.extended(first + fewer + third).versions), 3)
        other = next(one["note"] for one in load("manifests.json"))
        self.assertEqual(code_of(two.extended, other), "manifest_previous")
        self.assertEqual(code_of(two.extended, first + second + third.replace("— ", "— x")), "manifest_quorum")
        self.assertEqual(code_of(two.extended, ""), "manifest_note")

    def test_a_cut_needs_the_quorums_that_certified_the_log(self) -> None:
        names = [f"{name}.example" for name in ("alpha", "beta", "gamma", "delta")]

        def operators(of: int) -> list[dict[str, object]]:
            """Their governance keys differ in each version."""
            keys = [shown(10 * of + i) for i in range(4)]
            named = zip(names, keys, strict=True)
            return [{"name": name, "governance_key": key, "generation": 1} for name, key in named]

        def by(*versions: int, less: int = 0) -> list[tuple[str, int]]:
            quorum = [(name, 10 * of + i) for of in versions for i, name in enumerate(names[:3])]
            return quorum[less:]

        every = list(zip(names, range(10, 14), strict=True))
        genesis = version(None, operators(1), [])
        self.assertEqual(code_of(Manifest.read, signed(genesis, *every[1:])), "manifest_signature")
        chain = signed(genesis, *every)
        for of in (2, 3, 4):
            chain += signed(version(Manifest.read(chain), operators(of), []), *by(of - 1))
        held = Manifest.read(chain)
        for adopted, wanted in ((0, (1, 4)), (1, (1, 4)), (2, (1, 2, 4)), (3, (2, 3, 4)), (4, (3, 4))):
            after = [one | ({"generation": 2} if one["name"] == names[0] else {}) for one in operators(5)]
            cut = {"operator": names[0], "generation": 1, "size": adopted, "adopted": adopted}
            text = version(held, after, [cut])
            self.assertEqual(len(held.extended(chain + signed(text, *by(*wanted))).versions), 5, adopted)
            for missing in wanted:
                fewer = [one for of in wanted for one in by(of, less=int(of == missing))]
                self.assertEqual(code_of(held.extended, chain + signed(text, *fewer)), "manifest_quorum", adopted)
        for log, adopted in (("omega.example", 1), (names[0], 5), (names[0], -1)):
            text = version(held, operators(5), [{"operator": log, "generation": 1, "size": 1, "adopted": adopted}])
            self.assertEqual(code_of(held.extended, chain + signed(text, *by(1, 2, 3, 4))), "manifest_succession")

    def test_the_order_of_logs(self) -> None:
        logs = [("a.example", 9), ("a.example", 10), ("a.example-b", 1), ("a.example.net", 1), ("b.example", 1)]
        manifest, chain = None, ""
        for generation in range(1, 11):
            now = [("b.example", 1), ("a.example.net", 1), ("a.example-b", 1), ("a.example", generation)]
            operators: list[dict[str, object]] = [
                {"name": name, "governance_key": shown(i), "generation": at} for i, (name, at) in enumerate(now)
            ]
            chain += signed(version(manifest, operators, []), *((name, i) for i, (name, _) in enumerate(now)))
            manifest = Manifest.read(chain)
        assert manifest
        self.assertEqual(list(manifest.newest.logs)[8:], [f"{name}/{at}" for name, at in logs])

    def test_frontiers(self) -> None:
        manifest = Manifest.read(self.chain["chain"])
        sizes = [0, 127, 128, 16_384, (1 << 63) - 1]
        second = f"2.{encode_base64url(b''.join(map(leb128, sizes)))}"
        self.assertEqual(manifest.read_frontier(second), dict(zip(manifest.versions[1].logs, sizes, strict=True)))
        self.assertEqual(manifest.read_frontier("1.AAAAAA"), dict.fromkeys(manifest.versions[0].logs, 0))
        for text, code in (
            ("4.AAAA", "later_version"), ("9999999999.AA", "later_version"), ("", "bad_cursor"), ("2", "bad_cursor"),
            ("0.AAAA", "bad_cursor"), ("01.AAAAAA", "bad_cursor"), ("+1.AAAAAA", "bad_cursor"),
            ("v1.AAAA", "bad_cursor"), ("1.AAAA", "bad_cursor"), ("1.AAAAAAA", "bad_cursor"),
            ("1.AAAAAB", "bad_cursor"), ("1.AAAAgA", "bad_cursor"),
            ("1." + encode_base64url(bytes(3) + b"\x80" * 9 + b"\x01"), "bad_cursor"), (second + "=", "bad_cursor"),
            (second + "\n", "bad_cursor"), (second + "AA", "bad_cursor"),
        ):  # fmt: skip
            self.assertEqual(code_of(manifest.read_frontier, text), code, text)


def leb128(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


if __name__ == "__main__":
    unittest.main()
