"""Runs the binary `counts` under callgrind, and holds what it finds against the figures of a file."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

# Figures may rise by so much, or by so many instructions where they are small, and no allocation more.
TOLERANCE, FEW = 0.05, 300

HEAD = f"""\
# What the hot paths take beyond the bare work beneath them, by `scripts/counts` on x86-64.
# A figure that rises by more than {TOLERANCE:.0%} and {FEW} instructions, or by an allocation, fails the check;
# after a change that is worth it, or that lowers one: `scripts/counts --write`.
# instructions | allocations | path
"""


def run(binary):
    """[(path, base, allocations, instructions)]"""
    with tempfile.TemporaryDirectory() as folder:
        # The counter runs inside `measured` alone, and each call of it begins a file.
        tool = ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=counts::measured*"]
        files = ["--dump-before=*measured*", f"--callgrind-out-file={folder}/out"]
        done = subprocess.run([*tool, *files, binary], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        lines = [line.split("\t") for line in done.stdout.splitlines()]
        parts = [f"{folder}/out.{number}" for number in range(2, len(lines) + 1)] + [f"{folder}/out"]
        for (path, base, allocations, rounds), part in zip(lines, parts, strict=True):
            total = re.search(r"^(?:totals|summary): (\d+)", Path(part).read_text(), re.MULTILINE)
            yield path, base, int(allocations), int(total[1]) / int(rounds)


def beyond_base(found):
    """{path: (instructions, allocations)}, for those with a base."""
    by_path = {path: (instructions, allocations) for path, _, allocations, instructions in found}
    by_path["-"] = (0, 0)
    figures = {}
    for path, base, _, _ in found:
        if base:
            (own, own_allocations), (beneath, beneath_allocations) = by_path[path], by_path[base]
            figures[path] = (round(own - beneath), own_allocations - beneath_allocations)
    return figures


def read(file):
    rows = [line.split("|") for line in file.read_text().splitlines() if not line.startswith("#")]
    return {path.strip(): (int(instructions), int(allocations)) for instructions, allocations, path in rows}


def main():
    binary, file, write = sys.argv[1], Path(sys.argv[2]), sys.argv[3:] == ["--write"]
    found = list(run(binary))
    for path, base, allocations, instructions in found:
        if not base:
            print(f"{instructions:>10.0f} | {allocations:>3} | {path}")
    figures = beyond_base(found)
    if write:
        rows = [f"{instructions:>8} | {allocations:>3} | {path}\n" for path, (instructions, allocations) in figures.items()]
        file.write_text(HEAD + "".join(rows))
    committed, worse = read(file), []
    for path in {**committed, **figures}:
        if path not in figures or path not in committed:
            worse.append(f"`{path}` is only {'measured' if path in figures else 'committed'}")
            continue
        (instructions, allocations), (most, most_allocations) = figures[path], committed[path]
        print(f"{instructions:>10} | {allocations:>3} | {path}   ({most}, {most_allocations})")
        if instructions > max(most * (1 + TOLERANCE), most + FEW) or allocations > most_allocations:
            worse.append(f"`{path}` takes {instructions} instructions and {allocations} allocations; "
                         f"committed are {most} and {most_allocations}")
    if worse:
        sys.exit("\n".join([*worse, "if that is worth it, say why in the commit, and run scripts/counts --write"]))
    print(f"{len(figures)} hot paths take no more than committed")


main()
