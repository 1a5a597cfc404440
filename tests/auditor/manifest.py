"""Manifests and their succession. PROTOCOL.md, The manifest and Versions and cuts."""

import re
import tomllib
from typing import NamedTuple

from blake3 import blake3

from . import bounds, days, keys
from .fault import Fault, require
from .fields import domain, hexadecimal
from .signed import holds, origin_of, parse_signed
from .tree import EMPTY

FIRST_LINE = b'format = "fama.manifest/1"\n'
NO_STATE = bytes(32)
PROTOCOL = 1
_NAME = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,64}")
_ADDRESS = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,253}")
_ORIGIN = re.compile(r"(https?)://([a-z0-9.-]+|\[::1\])(?::([1-9][0-9]{0,4}))?")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_ORIGINS = ("query", "submit", "issuer")
SHORT = ("max_delta", "daily_cap", "min_sponsors", "daily_registrations", "daily_attestations",
         "daily_retractions", "daily_new_providers", "daily_grants")
LONG = ("daily_bytes", "max_age_ms", "max_lag_ms", "heartbeat_ms", "batch_ms")


class Log(NamedTuple):
    """One operator's log of one generation."""

    operator: str
    generation: int

    def __str__(self):
        return f"{self.operator}/{self.generation}"


class Operator(NamedTuple):
    name: str
    node_key: keys.Key
    governance_key: keys.Key
    generation: int
    begins: int
    addresses: list
    origins: dict
    token_keys: list

    def log(self):
        return Log(self.name, self.generation)


class Cut(NamedTuple):
    log: Log
    size: int
    root: bytes
    state_root: bytes
    adopted: int
    successor: Log


class Manifest(NamedTuple):
    version: int
    protocol: int
    name: str
    hash: bytes
    federation: bytes
    previous: bytes | None
    policy: dict
    operators: dict
    homes: dict
    cuts: list
    # The homes in the order of the text.
    home_order: list
    note: object

    def quorum(self):
        count = len(self.operators)
        return (count + (count - 1) // 3) // 2 + 1

    def node_keys(self):
        return {operator.name: operator.node_key for operator in self.operators.values()}

    def logs(self):
        return [operator.log() for operator in self.operators.values()]


    def signed_by(self, other):
        """Which operators of another version signed this text."""
        operators = other.operators.values()
        return [one.name for one in operators if holds(self.note, one.name, one.governance_key)]


class _Table:
    """A TOML table: every key must be taken, each with the right type."""

    def __init__(self, table, where):
        require(isinstance(table, dict), "manifest_toml", f"{where} is no table")
        self.rest = dict(table)
        self.where = where

    def take(self, name, of):
        require(name in self.rest, "manifest_toml", f"{self.where} has no {name}")
        value = self.rest.pop(name)
        right = isinstance(value, of) and not isinstance(value, bool)
        require(right, "manifest_toml", f"{name} of {self.where} is of another type")
        return value

    def integer(self, name, least, most=bounds.I63_MAX):
        value = self.take(name, int)
        require(least <= value <= most, "manifest_value", f"{name} of {self.where}: {value}")
        return value

    def of(self, name, parse, *more):
        value = self.take(name, str)
        try:
            return parse(value, *more)
        except Fault as fault:
            raise Fault("manifest_value", f"{name} of {self.where}: {fault}") from None

    def tables(self, name, needed=True):
        if not needed and name not in self.rest:
            return []
        return [_Table(table, name) for table in self.take(name, list)]

    def end(self):
        require(not self.rest, "manifest_toml", f"unknown in {self.where}: {sorted(self.rest)}")


def parse_manifest(raw):
    """One version on its own; `Chain` decides whether it holds."""
    require(len(raw) <= bounds.MANIFEST_BYTES_MAX, "manifest_too_long")
    try:
        note = parse_signed(raw, bounds.MANIFEST_BYTES_MAX)
    except Fault as fault:
        raise Fault("manifest_note", str(fault)) from None
    require(note.text.startswith(FIRST_LINE), "manifest_format")
    try:
        whole = _Table(tomllib.loads(note.text.decode()), "the manifest")
    except (ValueError, RecursionError) as error:
        raise Fault("manifest_toml", str(error)) from None
    whole.take("format", str)
    protocol = whole.integer("protocol", 1, bounds.U32_MAX) if "protocol" in whole.rest else 1
    require(protocol <= PROTOCOL, "manifest_protocol", f"protocol {protocol}")
    manifest = _parse_whole(whole, note, protocol)
    whole.end()
    _check_values(manifest)
    canonical = _render(manifest).encode() == note.text
    require(canonical, "manifest_canonical", "not the text that its content has")
    return manifest


def _render(manifest):
    """The one text of this content. PROTOCOL.md, The canonical text."""
    head = [("format", "fama.manifest/1"), ("name", manifest.name), ("version", manifest.version)]
    if manifest.protocol != 1:
        head.append(("protocol", manifest.protocol))
    if manifest.version > 1:
        head += [("federation", manifest.federation.hex()), ("previous", manifest.previous.hex())]
    text = _table(None, head) + _table("[policy]", [(name, manifest.policy[name]) for name in SHORT + LONG])
    for one in manifest.operators.values():
        said = [("name", one.name), ("node_key", one.node_key), ("governance_key", one.governance_key)]
        said += [("generation", one.generation), ("begins", days.show_time(one.begins))]
        said.append(("addresses", one.addresses))
        said += [(name, one.origins[name]) for name in _ORIGINS if name in one.origins]
        if one.token_keys:
            said.append(("token_keys", one.token_keys))
        text += _table("[[operators]]", said)
    for home in manifest.home_order:
        log = manifest.homes[home]
        said = [("name", home), ("operator", log.operator), ("generation", log.generation)]
        text += _table("[[homes]]", said)
    for cut in manifest.cuts:
        said = [("operator", cut.log.operator), ("generation", cut.log.generation), ("size", cut.size)]
        said += [("root", cut.root.hex()), ("state_root", cut.state_root.hex()), ("adopted", cut.adopted)]
        said.append(("successor", cut.successor.operator))
        said.append(("successor_generation", cut.successor.generation))
        text += _table("[[cuts]]", said)
    return text


def _table(title, pairs):
    lines = "".join(f"{name} = {_value(value)}\n" for name, value in pairs)
    return lines if title is None else f"\n{title}\n{lines}"


def _value(value):
    if isinstance(value, int):
        return str(value)
    if isinstance(value, keys.Key):
        return f'"{value.text()}"'
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return f'"{value}"'


def _parse_whole(whole, note, protocol):
    version = whole.integer("version", 1, bounds.U32_MAX)
    text_hash = blake3(note.text).digest()
    later = version > 1
    for name in ("federation", "previous"):
        said = name in whole.rest
        require(said == later, "manifest_value", f"{name} belongs to the versions behind the first")
    name = whole.take("name", str)
    require(_NAME.fullmatch(name), "manifest_value", "the name")
    operators = [_parse_operator(table) for table in whole.tables("operators")]
    homes = [_parse_home(table) for table in whole.tables("homes")]
    require(len(dict(operators)) == len(operators), "manifest_value", "an operator twice")
    require(len(dict(homes)) == len(homes), "manifest_value", "a home twice")
    return Manifest(
        version=version,
        protocol=protocol,
        name=name,
        hash=text_hash,
        federation=whole.of("federation", hexadecimal, 32) if later else text_hash,
        previous=whole.of("previous", hexadecimal, 32) if later else None,
        policy=_parse_policy(_Table(whole.take("policy", dict), "policy")),
        operators=dict(operators),
        homes=dict(homes),
        cuts=[_parse_cut(table) for table in whole.tables("cuts", needed=False)] if later else [],
        home_order=[name for name, _ in homes],
        note=note,
    )


def _parse_policy(table):
    policy = {name: table.integer(name, 0, bounds.U32_MAX) for name in SHORT}
    policy |= {name: table.integer(name, 0) for name in LONG}
    table.end()
    return policy


def _ed25519(text):
    key = keys.parse_key(text)
    require(key.curve == "ed25519", "key_algorithm")
    return key


def _parse_operator(table):
    name, node_key = table.of("name", domain), table.of("node_key", _ed25519)
    governance_key = table.of("governance_key", _ed25519)
    generation = table.integer("generation", 1, bounds.U32_MAX)
    begins = table.of("begins", days.parse_time)
    addresses = table.take("addresses", list)
    require(len(addresses) <= bounds.ADDRESSES_MAX, "manifest_value", "too many addresses")
    for address in addresses:
        fits = isinstance(address, str) and _ADDRESS.fullmatch(address)
        require(fits, "manifest_value", "an address")
    origins = {one: table.of(one, _origin) for one in _ORIGINS if one in table.rest}
    tokens = table.take("token_keys", list) if "token_keys" in table.rest else []
    try:
        token_keys = [_ed25519(text) for text in tokens]
    except (Fault, TypeError, AttributeError) as error:
        raise Fault("manifest_value", f"a token key: {error}") from None
    few = len(token_keys) <= bounds.TOKEN_KEYS_MAX
    both = bool(token_keys) == ("issuer" in origins)
    require(few and both, "manifest_value", "one or two token keys with an issuer")
    table.end()
    made = Operator(name, node_key, governance_key, generation, begins, addresses, origins, token_keys)
    return name, made


def _origin(text):
    match = _ORIGIN.fullmatch(text)
    require(match, "bad_value", "not an origin")
    scheme, host, port = match.groups()
    plain = port is None or (int(port) <= 65_535 and port != {"http": "80", "https": "443"}[scheme])
    require(plain, "bad_value", "the port")
    if host not in _LOOPBACK:
        require(scheme == "https", "bad_value", "http beyond the loopback")
        domain(host)
    return text


def _parse_log(table, operator, generation):
    return Log(table.of(operator, domain), table.integer(generation, 1, bounds.U32_MAX))


def _parse_home(table):
    home = table.of("name", domain), _parse_log(table, "operator", "generation")
    table.end()
    return home


def _parse_cut(table):
    cut = Cut(
        _parse_log(table, "operator", "generation"),
        table.integer("size", 0),
        table.of("root", hexadecimal, 32),
        table.of("state_root", hexadecimal, 32),
        table.integer("adopted", 0, bounds.U32_MAX),
        _parse_log(table, "successor", "successor_generation"),
    )
    table.end()
    begun = cut.size > 0 and cut.adopted > 0
    never = (cut.size, cut.root, cut.state_root, cut.adopted) == (0, EMPTY, NO_STATE, 0)
    require(begun or never, "manifest_value", f"the end of {cut.log}")
    return cut


def _check_values(manifest):
    policy, operators = manifest.policy, manifest.operators.values()
    count = len(operators)
    require(1 <= count <= bounds.OPERATORS_MAX, "manifest_value", f"{count} operators")
    caps = 1 <= policy["max_delta"] <= policy["daily_cap"] <= 1000
    require(caps, "manifest_value", "max_delta, daily_cap")
    require(1 <= policy["min_sponsors"] <= count, "manifest_value", "min_sponsors")
    lag = bounds.HOUR_MILLIS <= policy["max_lag_ms"] <= 30 * bounds.DAY_MILLIS
    require(lag, "manifest_value", "max_lag_ms")
    require(1000 <= policy["heartbeat_ms"] <= 600_000, "manifest_value", "heartbeat_ms")
    require(policy["batch_ms"] <= 60_000, "manifest_value", "batch_ms")
    all_keys = [key for one in operators for key in (one.node_key, one.governance_key, *one.token_keys)]
    require(len(set(all_keys)) == len(all_keys), "manifest_value", "a key twice")
    issuers = [one.origins["issuer"] for one in operators if "issuer" in one.origins]
    require(len(set(issuers)) == len(issuers), "manifest_value", "an issuer twice")
    for one in operators:
        require(one.name in manifest.homes, "manifest_value", f"{one.name} is no home")
    logs = set(manifest.logs())
    for home, log in manifest.homes.items():
        require(log in logs, "manifest_value", f"{home} is carried by no operator's log")


class Chain:
    """Versions 1, 2, … of a federation's manifest, each checked against those before it."""

    def __init__(self, genesis):
        require(genesis.version == 1, "manifest_version", "not the genesis")
        missing = set(genesis.operators) - set(_signers(genesis, genesis))
        require(not missing, "manifest_signature", f"not signed by {sorted(missing)}")
        self.versions = [genesis]
        # For each log: the first version that has it, its key, its cut.
        self.born = {log: 1 for log in genesis.logs()}
        self.node_keys = {one.log(): one.node_key for one in genesis.operators.values()}
        self.begins = {one.log(): one.begins for one in genesis.operators.values()}
        self.cuts = {}
        # For each key: the operator whose tokens it signed; None if it had another use.
        self.uses = dict(_uses(genesis))

    def __getitem__(self, version):
        return self.versions[version - 1]

    def __len__(self):
        return len(self.versions)

    @property
    def federation(self):
        return self.versions[0].hash

    def adopted_min(self, log, newest):
        """The oldest version of which a reader of version `newest` takes a head of a log that is not cut."""
        return max(self.born[log], newest - 1)

    def origin(self, log):
        return origin_of(self.federation, log.operator, log.generation)

    def append(self, manifest):
        """Appends the next version, or refuses it with the reason."""
        require(len(self) < bounds.VERSIONS_MAX, "manifest_chain_too_long")
        newest = self.versions[-1]
        require(manifest.version == len(self) + 1, "manifest_version", str(manifest.version))
        previous = (manifest.federation, manifest.previous) == (self.federation, newest.hash)
        require(previous, "manifest_previous")
        require(manifest.name == newest.name, "manifest_previous", "the name stays")
        self._check_cuts(manifest)
        self._check_operators(manifest)
        self._check_homes(manifest)
        self._check_keys(manifest)
        self._check_quorums(manifest)
        for one in manifest.operators.values():
            self.born.setdefault(one.log(), manifest.version)
            self.node_keys.setdefault(one.log(), one.node_key)
            self.begins.setdefault(one.log(), one.begins)
        self.uses.update(_uses(manifest))
        self.cuts.update({cut.log: (manifest.version, cut) for cut in manifest.cuts})
        self.versions.append(manifest)

    def _check_cuts(self, manifest):
        kept, newly = set(manifest.logs()), {cut.log for cut in manifest.cuts}
        require(len(newly) == len(manifest.cuts), "manifest_succession", "a log is cut twice")
        require(not newly & kept, "manifest_succession", "a log that is cut goes on")
        require(not kept & set(self.cuts), "manifest_succession", "a log that was cut goes on")
        for cut in manifest.cuts:
            known = cut.log in self.born and cut.log not in self.cuts
            require(known, "manifest_succession", f"{cut.log} cannot be cut")
            heir = manifest.operators.get(cut.log.operator)
            fits = cut.successor in kept and (heir is None or heir.log() == cut.successor)
            require(fits, "manifest_succession", f"{cut.log}: no such successor")
            could = self.born[cut.log] <= cut.adopted < manifest.version
            require(could or cut.size == 0, "manifest_succession", f"{cut.log}: its version")
        for log in self.versions[-1].logs():
            require(log in kept or log in newly, "manifest_succession", f"{log} must be cut")

    def _check_operators(self, manifest):
        former = {log.operator for log in self.born} - set(self.versions[-1].operators)
        used = set(self.node_keys.values())
        for one in manifest.operators.values():
            require(one.name not in former, "manifest_succession", f"{one.name} was gone")
            if one.log() in self.born:
                same = one.node_key == self.node_keys[one.log()]
                require(same, "manifest_succession", f"{one.name}: another key, the same log")
                stays = one.begins == self.begins[one.log()]
                require(stays, "manifest_succession", f"{one.name}: the same log begins at another time")
            else:
                require(one.node_key not in used, "manifest_succession", f"{one.name}: a used key")
        self._check_roles(manifest)

    def _check_roles(self, manifest):
        """No key is ever both a node key and a governance key."""
        everyone = [one for version in (*self.versions, manifest) for one in version.operators.values()]
        both = {one.node_key for one in everyone} & {one.governance_key for one in everyone}
        require(not both, "manifest_succession", "a key of the node and of governance")

    def _check_homes(self, manifest):
        before, newly = self.versions[-1].homes, {cut.log for cut in manifest.cuts}
        gone = set(before) - set(manifest.homes)
        require(not gone, "manifest_succession", f"homes are missing: {sorted(gone)}")
        for home, log in manifest.homes.items():
            if home in before:
                stays = log == before[home] or before[home] in newly
                require(stays, "manifest_succession", f"{home} leaves a log that goes on")
            else:
                own = log.operator == home and log not in self.born
                require(own, "manifest_succession", f"{home} is new, and not with its operator")

    def _check_keys(self, manifest):
        for key, use in _uses(manifest):
            same = self.uses.get(key, use) == use
            require(same, "manifest_succession", "a token key had another use, or another key was one")

    def _check_quorums(self, manifest):
        wanted = {len(self)}
        for cut in manifest.cuts:
            # A log that never began counts as at the version that brought it.
            born = self.born[cut.log]
            wanted |= {max(cut.adopted, born), max(cut.adopted - 1, born)}
        for version in sorted(wanted):
            signers, needed = _signers(manifest, self[version]), self[version].quorum()
            enough = len(signers) >= needed
            require(enough, "manifest_quorum", f"{len(signers)} of {needed} of version {version}")


def _uses(manifest):
    """Each key with the operator whose tokens it signs, None for the other keys."""
    for one in manifest.operators.values():
        yield from ((key, None) for key in (one.node_key, one.governance_key))
        yield from ((key, one.name) for key in one.token_keys)


def _signers(manifest, version):
    try:
        return manifest.signed_by(version)
    except Fault as fault:
        raise Fault("manifest_signature", fault.what) from None


def split_chain(raw):
    """The notes of a chain file: each begins at a line with the format. PROTOCOL.md, Versions and cuts."""
    parts = raw.split(FIRST_LINE)
    require(parts.pop(0) == b"" and parts, "manifest_format")
    return [FIRST_LINE + part for part in parts]


def read_chain(raw):
    """Reads and verifies a chain file."""
    notes = split_chain(raw)
    chain = Chain(parse_manifest(notes[0]))
    for note in notes[1:]:
        chain.append(parse_manifest(note))
    return chain
