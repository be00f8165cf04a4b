# SPDX-License-Identifier: MIT OR Apache-2.0
"""One page about a run: what failed, how exact the device is, how fast beside others and beside what it can do."""

import json
from collections import Counter
from pathlib import Path

# Lines of each list on the page.
MOST_LINES = 12


def summary(records: list[dict], bench: Path, simulated: bool) -> str:
    """The page."""
    lines = ["", "SUMMARY" + (" (simulated: not timed)" if simulated else "")]
    lines += device(records)
    lines += parts(records)
    lines += failures(records)
    lines += worst_errors(records)
    rows = bench_rows(bench)
    lines += [f"bench: {len(rows)} rows, simulated: not timed"] if simulated and rows else rates(rows)
    return "\n".join(lines) + "\n"


def data_of(records: list[dict], prefix: str) -> list[tuple[str, dict]]:
    """What steps found out, by the last part of their names."""
    kept = [r for r in records if r["step"].startswith(prefix) and isinstance(r.get("data"), dict)]
    return [(record["step"].rsplit("/", 1)[1], record["data"]) for record in kept]


def device(records: list[dict]) -> list[str]:
    """The first device of `kiln doctor`."""
    found = [device for _, report in data_of(records, "doctor/") for device in report["cuda"]["devices"]]
    if not found:
        return ["device: unknown"]
    first = found[0]
    driver = ".".join(str(number) for number in first["driver"])
    return [f"device: {first['model']}, driver of CUDA {driver}, kernels: {first['image']}"]


def parts(records: list[dict]) -> list[str]:
    """How many steps of each part did what."""
    counts: dict[str, Counter] = {}
    for record in records:
        counts.setdefault(record["step"].split("/")[0], Counter())[record["result"]] += 1
    lines = []
    for part, results in counts.items():
        lines.append(f"  {part:<10} " + ", ".join(f"{count} {result}" for result, count in sorted(results.items())))
    reasons = Counter(record["why"] for record in records if record["result"] == "left out")
    lines += [f"  left out, {count}: {why}" for why, count in reasons.most_common(MOST_LINES)]
    return lines


def failures(records: list[dict]) -> list[str]:
    """What failed, each with the last line that it printed."""
    bad = [record for record in records if record["result"] in ("failed", "timed out")]
    if not bad:
        return ["nothing failed"]
    lines = [f"{len(bad)} FAILED:"]
    for record in bad[:MOST_LINES]:
        tail = [line for line in record.get("tail", "").splitlines() if line.strip()]
        panicked = next((line for line in tail if "panicked" in line or line.startswith("error")), None)
        lines.append(f"  {record['step']} ({record['result']}): {(panicked or (tail or ['']).pop())[:160]}")
    if len(bad) > MOST_LINES:
        lines.append(f"  and {len(bad) - MOST_LINES} more, in steps.jsonl")
    return lines


def worst_errors(records: list[dict]) -> list[str]:
    """The largest errors of the self-test and of the kernels' tests, as shares of what is allowed."""
    shares = []
    for precision, report in data_of(records, "self-test/"):
        for check in report["checks"]:
            shares.append((check["worst"] / check["tolerance"], f"self-test {precision}: {check['what']}"))
    for test, outcome in data_of(records, "tests/"):
        for family, percent in outcome.get("worst percent of tolerance", {}).items():
            shares.append((percent / 100.0, f"{test}: {family}"))
    if not shares:
        return []
    shares.sort(reverse=True)
    lines = ["worst errors, as shares of their tolerance:"]
    return lines + [f"  {100.0 * share:6.1f} %  {what}" for share, what in shares[:MOST_LINES]]


def bench_rows(path: Path) -> list[dict]:
    """The rows of the bench; a line that was cut off is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def rates(rows: list[dict]) -> list[str]:
    """Ceilings, shares of them, and times beside PyTorch's."""
    timed = [row for row in rows if row.get("us")]
    lines = ["measured ceilings:"] if timed else []
    for row in [row for row in timed if row["group"] == "ceiling"]:
        lines.append(f"  {row['name']:<28} {row['us'][1]:10.2f} us  {rate_of(row)}")
    own = [row for row in timed if row["peer"] == "kiln"]
    shares = [row for row in own if row.get("percent_of_ceiling") and row["group"] != "ceiling"]
    shares.sort(key=lambda row: row["percent_of_ceiling"])
    for title, chosen in (("lowest", shares[:MOST_LINES]), ("highest", shares[: -MOST_LINES - 1 : -1])):
        if chosen:
            lines.append(f"{title} shares of those ceilings:")
        for row in chosen:
            about = f"{row['name']} {row['shape']} {row['dtype']} ({row['cache']})"
            lines.append(f"  {row['percent_of_ceiling']:6.1f} %  {about}")
    lines += beside(rows)
    return lines


def beside(rows: list[dict]) -> list[str]:
    """Training steps beside those of others, a line for each step."""
    steps = [row for row in rows if row["group"] == "step"]
    lines = []
    for kiln in [row for row in steps if row["peer"] == "kiln" and row.get("us")]:
        same = [row for row in steps if all(row[key] == kiln[key] for key in ("name", "dtype", "feed"))]
        told = ", ".join(f"{row['peer']} {ratio_of(row)}" for row in same if row["peer"] != "kiln")
        if told:
            lines.append(f"  {kiln['name']:<20} {kiln['dtype']:<5} {kiln['feed']:<9} {kiln['us'][1]:10.1f} us  {told}")
    return lines and ["training steps beside others (their time / kiln's; above 1 kiln is faster):", *lines]


def ratio_of(row: dict) -> str:
    """A peer's ratio, or why there is none."""
    if row.get("ratio"):
        return f"{row['ratio']:.2f}"
    return "differs" if row.get("differs") else "no figures"


def rate_of(row: dict) -> str:
    """What a row comes to per second."""
    if row.get("tflops"):
        return f"{row['tflops']:.1f} TFLOP/s"
    return f"{row['gbs']:.0f} GB/s" if row.get("gbs") else ""
