"""Runs the binary `counts` under callgrind, and compares its figures with the baseline and the exceptions."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# A figure may rise by this share of the baseline, or by this many instructions if the share is less: the figures of
# unchanged code vary that much between builds. No allocation may be added.
TOLERANCE, NOISE = 0.02, 60


def run(binary):
    """Yields (path, base, allocations, instructions)."""
    with tempfile.TemporaryDirectory() as folder:
        # The counter runs only inside `measured`, and each call of it starts a new file.
        tool = ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=counts::measured*"]
        files = ["--dump-before=*measured*", f"--callgrind-out-file={folder}/out"]
        # The allocator keeps each freed piece in a list by size. Otherwise it joins neighbours, whose cost depends on where they lie.
        environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.tcache_count=65535"}
        done = subprocess.run([*tool, *files, binary], capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(done.stderr)
        lines = [line.split("\t") for line in done.stdout.splitlines()]
        parts = [f"{folder}/out.{number}" for number in range(2, len(lines) + 1)] + [f"{folder}/out"]
        for (path, base, allocations, rounds), part in zip(lines, parts, strict=True):
            total = re.search(r"^(?:totals|summary): (\d+)", Path(part).read_text(), re.MULTILINE)
            yield path, base, int(allocations), int(total[1]) / int(rounds)


def beyond_base(found):
    """Returns {path: (instructions, allocations)} for the paths with a base."""
    by_path = {path: (instructions, allocations) for path, _, allocations, instructions in found}
    by_path["-"] = (0, 0)
    figures = {}
    for path, base, _, _ in found:
        if base:
            (own, own_allocations), (base_own, base_allocations) = by_path[path], by_path[base]
            figures[path] = (round(own - base_own), own_allocations - base_allocations)
    return figures


def read(file):
    rows = [line.split("|") for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return {path.strip(): (int(instructions), int(allocations)) for instructions, allocations, path, *_ in rows}


def main():
    binary, baseline_file, exceptions_file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    found = list(run(binary))
    for path, base, allocations, instructions in found:
        if not base:
            print(f"{instructions:>10.0f} | {allocations:>3} | {path}")
    figures = beyond_base(found)
    if sys.argv[4:] == ["--add"]:
        new = figures.keys() - read(baseline_file).keys()
        rows = [f"{figures[path][0]:>8} | {figures[path][1]:>3} | {path}\n" for path in figures if path in new]
        with baseline_file.open("a") as file:
            file.writelines(rows)
    baseline, exceptions, worse = read(baseline_file), read(exceptions_file), []
    for path in {**baseline, **exceptions, **figures}:
        if path not in figures or path not in baseline:
            worse.append(f"`{path}` is not {'in the baseline' if path in figures else 'measured'}")
            continue
        (instructions, allocations), (before, allocations_before) = figures[path], baseline[path]
        change = (instructions - before) / before
        print(f"{instructions:>10} | {allocations:>3} | {path}   ({before}, {allocations_before}: {change:+.1%})")
        limit = max(before * (1 + TOLERANCE), before + NOISE), allocations_before
        most, most_allocations = exceptions.get(path, limit)
        if instructions > most or allocations > most_allocations:
            worse.append(f"`{path}` takes {instructions} instructions and {allocations} allocations; "
                         f"the limit is {most:.0f} and {most_allocations}")
    if worse:
        sys.exit("\n".join([*worse, f"if a cost is justified, add a row with its reason to {exceptions_file}"]))
    print(f"{len(figures)} hot paths are within their limits")


main()
