"""What peers.py has measured, as goals, tables and plots.

usage: report.py

Reads peers.json and writes the tables of README.md and the plots anew.
"""

import importlib
import itertools
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from testbed import HERE, Result, spread

mpl: Any = importlib.import_module("matplotlib")  # by name: make lint has not installed it
Figure: Any = importlib.import_module("matplotlib.figure").Figure

FIGURES, README = HERE / "peers.json", HERE / "README.md"
BEGIN, END = "<!-- written by peers.py -->\n", "<!-- end of what peers.py writes -->\n"
OURS = "ugos-auth-proxy"
UNSLOWED, ROOMY = f"{OURS}, no delay", f"{OURS}, 1,200 connections"
PEERS = ("saslauthd", "nginx", "Apache, pwauth", "Apache, authnz_pam")
LIMITS = ("crypt_r", "libpam in C", "libpam in C, unmapped")
SAME, DEBIAN = "bench", "bench-debian"  # the stacks, as testbed.py calls them
SLOW_HASHES = ("SHA-512", "yescrypt")
CLIENTS = (1, 2, 4, 16)

Records = Sequence[dict[str, Any]]  # one a round, server and case


def chosen(records: Records, **where: object) -> list[dict[str, Any]]:
    """The records that are as `where` says."""
    return [
        record for record in records if all(record[key] == value for key, value in where.items())
    ]


def column(records: Records, key: str, **where: object) -> list[float]:
    return [record[key] for record in chosen(records, **where)]


def median(records: Records, key: str, **where: object) -> float:
    return statistics.median(column(records, key, **where))


def ratio(records: Records, key: str, against: str, **where: object) -> list[float]:
    """Each round's own ratio of the service to another."""
    pairs = zip(
        column(records, key, server=OURS, **where),
        column(records, key, server=against, **where),
        strict=True,
    )
    return [ours / other for ours, other in pairs]


def times(records: Records, **where: object) -> list[float]:
    """The milliseconds of all right logins in these records, in order of length."""
    return sorted(time for record in chosen(records, **where) for time in record["times"])


def percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[len(ordered) * percent // 100]


# --- The goals ---------------------------------------------------------------------------------


def against_peers(
    records: Records, key: str, *, hash_name: str, clients: int, more: bool
) -> Result:
    """Whether the service has less, or `more`, than every peer."""
    where = {"stack": SAME, "hash": hash_name, "clients": clients}
    found = {peer: statistics.median(ratio(records, key, peer, **where)) for peer in PEERS}
    worst = min(found.values()) if more else max(found.values())
    what = "right logins per second" if more else "CPU per right login"
    return Result(
        f"{what} over the best peer's, {hash_name}, {clients} client{'s' * (clients > 1)}",
        ">= 1" if more else "< 1",
        f"{worst:.3f}",
        worst >= 1 if more else worst < 1,
        ", ".join(f"{peer} {value:.2f}" for peer, value in found.items()),
    )


def login_goals(records: Records) -> Iterator[Result]:
    for hash_name in ("SHA-512", "yescrypt", "DES"):
        yield against_peers(records, "cpu_ms", hash_name=hash_name, clients=1, more=False)
    for hash_name, goal in (("SHA-512", 1.12), ("yescrypt", 1.03)):
        found = ratio(records, "cpu_ms", "libpam in C", stack=SAME, hash=hash_name, clients=1)
        value = statistics.median(found)
        yield Result(
            f"CPU per right login over libpam's in C, {hash_name}, 1 client",
            f"<= {goal}",
            f"{value:.3f}",
            value <= goal,
            spread(found, ".3f"),
        )
    for hash_name in SLOW_HASHES:
        yield against_peers(records, "overall", hash_name=hash_name, clients=16, more=True)


def flood_goals(records: Records) -> Iterator[Result]:
    for hash_name in SLOW_HASHES:
        where = {"stack": SAME, "hash": hash_name}
        p95 = {
            name: percentile(times(records, server=name, **where), 95)
            for name in (OURS, UNSLOWED, *PEERS)
        }
        best = min(p95[peer] for peer in PEERS)
        for name in (OURS, UNSLOWED):
            yield Result(
                f"right login's p95 in a flood, {hash_name}, {name}",
                f"< {best:.0f} ms",
                f"{p95[name]:.0f} ms",
                p95[name] < best,
                ", ".join(f"{peer} {p95[peer]:.0f}" for peer in PEERS),
            )
    yield none_lost(records, "in a flood")


def connection_goals(records: Records) -> Iterator[Result]:
    found = column(records, "memory", server=ROOMY, kind="idle")
    value = statistics.median(found)
    yield Result(
        "memory of 1,000 idle connections",
        "< 20 MB",
        f"{value:.1f} MB",
        value < 20,
        f"{spread(found, '.1f')}; {ROOMY}",
    )
    for kind in ("idle", "dripping"):
        yield none_lost(records, f"beside 1,000 {kind} connections", kind=kind)


def none_lost(records: Records, when: str, **where: object) -> Result:
    servers = list(dict.fromkeys(record["server"] for record in chosen(records, **where)))
    own = [name for name in servers if name.startswith(OURS)]
    count = sum(lost(records, server=name, **where) for name in own)
    return Result(
        f"right logins of the service that timed out or failed {when}",
        "0",
        str(count),
        not count,
        ", ".join(f"{name} {lost_of_all(records, server=name, **where)}" for name in servers),
    )


def lost(records: Records, **where: object) -> int:
    """How many right logins timed out or got no right answer."""
    return sum(record["timeouts"] + record["failed"] for record in chosen(records, **where))


def lost_of_all(records: Records, **where: object) -> str:
    return f"{lost(records, **where)} of {len(times(records, **where))}"


# --- The tables --------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(value: float) -> str:
    """Three digits, or the whole ones."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def with_range(values: Sequence[float]) -> str:
    return f"{number(statistics.median(values))} ({number(min(values))} to {number(max(values))})"


def login_tables(records: Records) -> Iterator[str]:
    def by_case(cell: Callable[..., str], cases: Sequence[tuple[str, int]], stack: str) -> str:
        head = [
            "",
            *(
                f"{hash_name}, {clients} client{'s' * (clients > 1)}"
                for hash_name, clients in cases
            ),
        ]
        rows = [
            [
                name,
                *(
                    cell(server=name, stack=stack, hash=hash_name, clients=clients)
                    for hash_name, clients in cases
                ),
            ]
            for name in (
                OURS,
                *PEERS,
                *(LIMITS if stack == SAME else LIMITS[1:]),
            )  # crypt_r knows no stack
        ]
        return table(head, rows)

    def milliseconds(**where: object) -> str:
        return with_range(column(records, "cpu_ms", **where))

    def cpu_and_ratio(**where: Any) -> str:
        name = where.pop("server")
        cell = milliseconds(server=name, **where)
        return (
            cell
            if name == OURS
            else f"{cell}; **{statistics.median(ratio(records, 'cpu_ms', name, **where)):.2f}**"
        )

    def rate_and_ratio(**where: Any) -> str:
        name = where.pop("server")
        cell = with_range(column(records, "overall", server=name, **where))
        return (
            cell
            if name == OURS
            else f"{cell}; **{statistics.median(ratio(records, 'overall', name, **where)):.2f}**"
        )

    def latency(**where: object) -> str:
        return (
            f"{number(median(records, 'p50', **where))} / {number(median(records, 'p99', **where))}"
        )

    slow = list(itertools.product(SLOW_HASHES, CLIENTS))
    yield "**CPU per right login**, milliseconds; in bold the service's over it:\n"
    yield by_case(
        cpu_and_ratio, [(hash_name, 1) for hash_name in ("SHA-512", "yescrypt", "DES")], SAME
    )
    yield "**The same with more clients**:\n"
    yield by_case(milliseconds, [case for case in slow if case[1] > 1], SAME)
    yield "**Right logins per second**; in bold the service's over it:\n"
    yield by_case(rate_and_ratio, slow, SAME)
    yield "**How long a right login takes**, p50 / p99 in milliseconds:\n"
    yield by_case(latency, slow, SAME)
    few = list(itertools.product(SLOW_HASHES, (1, 16)))
    yield "**With Debian's default stack**, one round: CPU per right login in milliseconds,\n"
    yield by_case(lambda **where: number(median(records, "cpu_ms", **where)), few, DEBIAN)
    yield "and right logins per second:\n"
    yield by_case(lambda **where: number(median(records, "overall", **where)), few, DEBIAN)
    for name in PEERS:
        if wrong := sum(column(records, "wrong", server=name)):
            asked = sum(column(records, "count", server=name))
            yield f"{name} refused {wrong:,.0f} of {asked:,.0f} right passwords.\n"


def flood_tables(records: Records) -> Iterator[str]:
    cases = list(itertools.product((SAME, DEBIAN), SLOW_HASHES))
    stacks = {SAME: "", DEBIAN: ", Debian's stack"}

    def cell(**where: object) -> str:
        found = times(records, **where)
        refused = number(median(records, "refused", **where))
        middle, slow = percentile(found, 50), percentile(found, 95)
        return f"{middle:,.0f} / {slow:,.0f}; {lost_of_all(records, **where)}; {refused}"

    yield (
        "**A right login while 50 clients send wrong passwords**: p50 / p95 in milliseconds; lost; "
        "refused a second:\n"
    )
    yield table(
        ["", *(f"{hash_name}{stacks[stack]}" for stack, hash_name in cases)],
        [
            [name, *(cell(server=name, stack=stack, hash=hash_name) for stack, hash_name in cases)]
            for name in (OURS, UNSLOWED, *PEERS)
        ],
    )


def connection_tables(records: Records) -> Iterator[str]:
    def cells(**where: object) -> Iterator[str]:
        found = times(records, **where)
        yield number(median(records, "held", **where))
        yield f"{median(records, 'memory', **where):.1f}"
        yield f"{percentile(found, 50):,.0f} / {found[-1]:,.0f}; {lost_of_all(records, **where)}"

    yield (
        "**A right login beside 1,000 connections that ask nothing**: how many are open, "
        "the memory they take in MB, p50 / the longest in milliseconds; lost:\n"
    )
    kinds = ("idle", "dripping")
    yield table(
        ["", *(f"{kind}: {what}" for kind in kinds for what in ("open", "MB", "right login"))],
        [
            [name, *itertools.chain.from_iterable(cells(server=name, kind=kind) for kind in kinds)]
            for name in (OURS, ROOMY, *PEERS)
        ],
    )


def memory_tables(records: Records) -> Iterator[str]:
    what = {
        "start_ms": "start to the first right login, ms",
        "idle": "memory after it, MB",
        "used": "after 10,000 logins",
        "peak": "at most, 16 yescrypt logins at once",
    }
    yield "**Start and memory**:\n"
    yield table(
        ["", *what.values()],
        [
            [name, *(with_range(column(records, key, server=name)) for key in what)]
            for name in (OURS, *PEERS)
        ],
    )


TABLES = {
    "logins": login_tables,
    "flood": flood_tables,
    "connections": connection_tables,
    "memory": memory_tables,
}


# --- The plots ---------------------------------------------------------------------------------

COLOUR, MUTED = "#0b6e99", "#b8bec4"


def bars(axes: Any, title: str, unit: str, values: dict[str, float], labels: Sequence[str]) -> None:
    """Horizontal bars, each with its value written beside it."""
    names = list(values)
    drawn = axes.barh(
        names, list(values.values()), color=[COLOUR if name == OURS else MUTED for name in names]
    )
    axes.bar_label(drawn, labels=labels, padding=3, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)  # the first on top
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit, fontsize=9)
    axes.margins(x=0.25)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Any, name: str) -> None:
    figure.savefig(HERE / name, metadata={"Date": None})


def plot_cpu(records: Records) -> None:
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, hash_name in zip(
        figure.subplots(1, 3, sharey=True), ("SHA-512", "yescrypt", "DES"), strict=True
    ):
        values = {
            name: median(records, "cpu_ms", server=name, stack=SAME, hash=hash_name, clients=1)
            for name in (OURS, *PEERS, *LIMITS)
        }
        bars(
            axes,
            hash_name,
            "milliseconds of CPU",
            values,
            [number(value) for value in values.values()],
        )
    figure.suptitle("CPU time per right login, one client", fontsize=11)
    save(figure, "peers-cpu.svg")


def plot_flood(records: Records) -> None:
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    stacks = {SAME: "pam_unix alone, no delay", DEBIAN: "Debian's default stack"}
    for axes, (stack, title) in zip(
        figure.subplots(1, 2, sharey=True), stacks.items(), strict=True
    ):
        where = {"stack": stack, "hash": "yescrypt"}
        values = {
            name: percentile(times(records, server=name, **where), 95) for name in (OURS, *PEERS)
        }
        labels = [
            f"{value:,.0f}"
            + (
                f"; lost {lost_of_all(records, server=name, **where)}"
                if lost(records, server=name, **where)
                else ""
            )
            for name, value in values.items()
        ]
        bars(axes, title, "milliseconds", values, labels)
        axes.set_xlim(0, 8500)
    figure.suptitle(
        "95th percentile of a right login while 50 clients send wrong passwords, yescrypt",
        fontsize=11,
    )
    save(figure, "peers-flood.svg")


PLOTS = {"logins": plot_cpu, "flood": plot_flood}


def write() -> None:
    """Put what peers.json holds into README.md and the plots."""
    figures = json.loads(FIGURES.read_text())
    mpl.rcParams.update({"svg.hashsalt": "peers", "svg.fonttype": "none"})
    others = ", ".join(f"{part} {share:.0%}" for part, share in figures["others"].items())
    blocks = [f"{figures['about']}. Other processes had of the machine: {others}.\n"]
    for part, tables in TABLES.items():
        if part in figures:
            blocks.extend(tables(figures[part]))
    for part, plot in PLOTS.items():
        if part in figures:
            plot(figures[part])
    before, _, rest = README.read_text().partition(BEGIN)
    README.write_text(
        before + BEGIN + "\n" + "\n".join(blocks) + "\n" + END + rest.partition(END)[2]
    )


if __name__ == "__main__":
    write()
