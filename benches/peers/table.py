"""The table of a run, in Markdown."""

from typing import Any

HEAD = [
    "system", "events", "one by one", "16 at once", "in batches", "synced", "fresh node", "point queries", "disk", "memory",
]  # fmt: skip
NOTHING = "–"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rate(part: dict[str, Any] | None) -> str:
    if part is None:
        return NOTHING
    late = f", p99 {number(part['p99_ms'])} ms" if "p99_ms" in part else ""
    return f"{number(part['per_second'])}/s{late}"


def fresh(system: dict[str, Any]) -> str:
    full, quick = system["sync"], system["quick_sync"]
    more = f"; {number(quick['seconds'])} s from certified states" if quick else ""
    return f"{number(full['seconds'])} s, {number(full['per_second'])}/s{more}"


def row(system: dict[str, Any]) -> list[str]:
    if why := system.get("missing") or system.get("failed"):
        return [system["system"], why, *([NOTHING] * (len(HEAD) - 2))]
    return [
        system["system"], f"{system['events']:,}", rate(system["one_by_one"]), rate(system["many_at_once"]), rate(system["batches"]),
        "yes" if system["synced"] else "no", fresh(system), rate(system["point_queries"]),
        f"{system['disk_bytes_per_event']:,} B", f"{system['resident_memory_bytes'] / 1e6:,.0f} MB",
    ]  # fmt: skip


def lines(results: dict[str, Any]) -> list[str]:
    rows = [HEAD, ["---"] * len(HEAD), *(row(system) for system in results["systems"])]
    machine = results["machine"]
    where = f"{machine['day']}, {machine['cores']} cores of {machine['processor']}, {results['events']:,} events"
    return [where, "", *(f"| {' | '.join(cells)} |" for cells in rows)]
