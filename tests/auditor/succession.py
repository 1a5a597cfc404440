"""Which log carries a map, and from which log it took it over. PROTOCOL.md, Logs and replication."""


class Succession:
    """The logs of a chain of manifests; a log that was cut is replayed before the logs that take its maps over."""

    def __init__(self, chain):
        self.chain = chain
        self.replays = {}

    def order(self):
        """All logs; each comes after those whose maps it may take over."""
        last = len(self.chain) + 1
        return sorted(self.chain.born, key=lambda log: (self.chain.cuts.get(log, (last,))[0], log))

    def is_in_use(self, version):
        """Whether every log that this version or an earlier one cuts is here up to its end."""
        cuts = [cut for cut_by, cut in self.chain.cuts.values() if cut_by <= version]
        return all(self._is_whole(cut) for cut in cuts)

    def _is_whole(self, cut):
        if cut.size == 0:
            return True
        replay = self.replays.get(cut.log)
        return replay is not None and replay.size == cut.size

    def version_in_use(self):
        versions = range(len(self.chain), 0, -1)
        return next(version for version in versions if self.is_in_use(version))

    def carrier(self, name, version):
        """The log that carries the map under this version; None if there is none yet."""
        what, _, owner = name.partition("/")
        manifest = self.chain[version]
        if what == "home":
            return manifest.homes.get(owner)
        if owner in manifest.operators:
            return manifest.operators[owner].log()
        log = max((log for log in self.chain.born if log.operator == owner), default=None,
                  key=lambda log: self.chain.born[log])
        while log in self.chain.cuts and self.chain.cuts[log][0] <= version:
            log = self.chain.cuts[log][1].successor
        return log

    def inherited(self, log, version):
        """The statements and claims maps that this log carries for operators that are gone."""
        gone = {one.operator for one in self.chain.born} - set(self.chain[version].operators)
        names = {f"{what}/{owner}" for owner in gone for what in ("statements", "claims")}
        return {name for name in names if self._has_begun(name, version, log)}

    def _has_begun(self, name, version, log):
        owner = name.partition("/")[2]
        born = any(at <= version for one, at in self.chain.born.items() if one.operator == owner)
        return born and self.carrier(name, version) == log

    def holder(self, name, version):
        """The replay of the newest carrier of the map that adopted it; None if there is none."""
        for before in range(version, 0, -1):
            log = self.carrier(name, before)
            replay = self.replays.get(log)
            if replay is not None and name in replay.maps:
                return replay
        return None

    def held(self, name, version):
        """The map as its holder has it; None if there is none."""
        holder = self.holder(name, version)
        return None if holder is None else holder.maps[name]
