"""Runs the benchmark binaries and writes their figures to benches/RESULTS.md and manual/chart.svg.

In process: the binary `ratios`. Over sockets: one server at a time on one core, `wrk` on another, each in turn, in several
rounds, so that disturbances of the machine affect all of them equally.
"""

import datetime
import html
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

BIN, WORK, HERE = Path("target/bench/release"), Path("target/bench/others"), Path("benches")
ROUNDS, SECONDS, CONNECTIONS = 7, 1, 16
SERVER_CORE, LOAD_CORE = "0", "1"

TOKENS = {
    "hello": "axum, a handler that says hello",
    "same-bytes": "axum, a handler that reads the form and answers the bytes of a token",
    "ours-repeated": "ours, `reuse_tokens`",
    "ours": "ours",
    "lean": "a lean handler without our checks",
    "oxide-auth": "oxide-auth (opaque tokens)",
    "authkestra": "authkestra (EdDSA, client without a secret)",
    "oidc-provider": "npm oidc-provider",
    "authlib": "authlib, gunicorn",
}
ROUTES = {
    "open": "axum, the unprotected route",
    "empty": "axum, the route behind an empty layer",
    "slots": "axum, behind a layer that looks the token up and checks nothing",
    "protected": "ours",
    "tower-oauth2-resource-server": "tower-oauth2-resource-server",
    "oauth-resource-server": "oauth-resource-server",
    "axum-jwt-auth": "axum-jwt-auth",
    "jwt-authorizer": "jwt-authorizer",
}


BEYOND = []  # the figures that miss their targets
UNITS = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}


def judge(what, value, target):
    """Compares a value like `1.2 ×, 1.3 ×` or `24 µs` with a target like `≤ 25 µs`. Another text is no target."""
    number = r"(-?[\d.]+)(?: (ns|µs|ms|s)\b)?"
    most = re.match(f"≤ {number}", target)
    numbers = re.findall(number, value.replace(",", ""))
    if most and any(float(own) * UNITS.get(unit, 1) > float(most[1]) * UNITS.get(most[2], 1) for own, unit in numbers):
        BEYOND.append(f"{what}: {value}, target: {target}")


def end():
    """Fails if a figure misses its target."""
    if BEYOND:
        sys.exit("\n".join(["beyond the target:", *BEYOND]))


def free_port():
    """Returns a port that is not in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Server:
    """A running server and the `Authorization` header for it."""

    def __init__(self, name, port):
        self.port = port
        command = {
            "oidc-provider": ["node", "server.js", str(port)],
            "authlib": [str((WORK / "python/bin/gunicorn").absolute()), "--workers=1", "--no-control-socket",
                        f"--bind=127.0.0.1:{port}", "app:app"],
        }.get(name, [str((BIN / "serve").absolute()), name, str(port)])
        folder = {"oidc-provider": WORK / name, "authlib": HERE / "others/authlib"}.get(name, Path("."))
        pinned = ["taskset", "-c", SERVER_CORE, *command]
        self.process = subprocess.Popen(pinned, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if name == "authlib":
            self.authorization = "Basic " + "Y2xpZW50LTE6dGNjXzAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="
            self.wait()
        else:
            self.authorization = self.process.stdout.readline().strip()

    def wait(self):
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=1)
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.05)
        sys.exit("a server did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def memory(self):
        """Returns the resident bytes, including those of the workers."""
        pids = [self.process.pid]
        children = Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split()
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in [*pids, *children]]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def wrk(server, kind, seconds, connections=CONNECTIONS, more=""):
    """Returns (requests/s, requests). A response other than 200 ends the run."""
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "load.lua"),
               f"http://127.0.0.1:{server.port}/"]
    environment = {**os.environ, "KIND": kind, "AUTHORIZATION": server.authorization, "MORE": more}
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out:
        sys.exit(out)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), int(re.search(r"(\d+) requests in", out)[1])


def over_sockets(names, kind):
    """Returns {name: [requests/s, …]}, and {name: bytes per token} for servers that issue tokens."""
    found, memory = {name: [] for name in names}, {}
    for _ in range(ROUNDS):
        for name in names:
            # authkestra reads the client id only from the body.
            more = "&client_id=client-1" if name == "authkestra" else ""
            with Server(name, free_port()) as server:
                wrk(server, kind, 1, more=more)
                before = server.memory()
                rate, requests = wrk(server, kind, SECONDS, more=more)
                found[name].append(rate)
                memory.setdefault(name, []).append((server.memory() - before) / requests)
            print(f"  {name:30} {rate:10.0f} /s", file=sys.stderr)
    return found, memory


STANDALONE = '''
listen = "127.0.0.1:{port}"
issuer = "http://127.0.0.1:{port}"

[keys]
generate = "ES256"

[tokens]
scope = "read"

[[resources]]
audience = "https://api.example.com"

[[clients]]
client_id = "billing"
client_secret_hash = "{hash}"
scope = "read"
'''


def first_answer(command, port, path):
    """Returns the milliseconds from the start of a process to its first response."""
    request = f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode()
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while time.perf_counter() - start < 10:
            try:
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(request)
                    if connection.recv(64).startswith(b"HTTP/1.1 200"):
                        return (time.perf_counter() - start) * 1000
            except OSError:
                time.sleep(0.0002)
        sys.exit(f"no answer: {command}")
    finally:
        process.kill()
        process.wait()


def starts():
    """Measures the start of each server in turn, and returns the medians."""
    hello, ours, system = [], [], []
    config = WORK / "standalone.toml"
    path = "/.well-known/oauth-authorization-server"
    for _ in range(40):
        port = free_port()
        hello.append(first_answer([BIN / "serve", "start", str(port)], port, "/"))
        for times, folder in [(ours, BIN), (system, Path("target/bench/system-entropy/release"))]:
            port = free_port()
            config.write_text(STANDALONE.format(port=port, hash="$sha256$" + "A" * 43))
            times.append(first_answer([folder / "examples/standalone", "--config", config], port, path))
    return [statistics.median(times) for times in (hello, ours, system)]


def spread(values):
    values = sorted(values)
    return f"{statistics.median(values):,.0f} ({values[0]:,.0f} to {values[-1]:,.0f})"


def ratio(rates, others):
    """Returns the median of the ratios of the rounds."""
    return f"{statistics.median(rate / other for rate, other in zip(rates, others, strict=True)):.2f}"


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    rust = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()[1]
    node = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    versions = []
    lock = (HERE / "Cargo.lock").read_text()
    for crate in ["aws-lc-rs", "axum", "hyper", "tokio", "axum-jwt-auth", "jwt-authorizer", "oauth-resource-server",
                  "tower-oauth2-resource-server", "oxide-auth", "authkestra-op"]:
        found = re.findall(rf'name = "{crate}"\nversion = "([^"]+)"', lock)
        versions.append(f"{crate} {max(found)}")
    package = json.loads((HERE / "others/oidc-provider/package.json").read_text())
    versions.append(f"oidc-provider {package['dependencies']['oidc-provider']}")
    versions += (HERE / "others/authlib/requirements.txt").read_text().replace("==", " ").split("\n")[:-1]
    cpu = model[1] if model else platform.processor()
    return f"{cpu}, {os.cpu_count()} cores", f"Rust {rust}, Python {platform.python_version()}, Node {node}; " + ", ".join(versions), today


def in_process():
    """Returns the rows of the binary `ratios`."""
    out = subprocess.run([str(BIN / "ratios")], capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in out.splitlines()]
    for what, reference, own, _, _, _, ratio, most in rows:
        judge(f"{what} / {reference}", ratio or f"{own} ns", f"≤ {most}" if ratio or not most else f"≤ {most} ns")
    return rows


GROWTH = "## Growth"


def growth():
    """Returns the section on growth: the rows of the binaries `growth` and `allocated`, by row number."""
    outputs = [subprocess.run([str(BIN / name)], capture_output=True, text=True, check=True).stdout for name in ("growth", "allocated")]
    rows = [line.split("\t") for output in outputs for line in output.splitlines()]
    rows.sort(key=lambda row: row[0])
    for _, what, _, judged, value, target in rows:
        judge(f"{what}, {judged}", value, target)
    cells = [[number, what, figures.replace("; ", "<br>"), judged, value, target] for number, what, figures, judged, value, target in rows]
    return [
        GROWTH,
        "How the cost of one request grows with the input that a caller, a registration or a store controls. Times are medians "
        "of the processor time of the thread. The sizes of a row are measured in turn, and the judged value is the median of "
        "the differences or ratios of all rounds. Numbered rows have targets; for the other rows, marked D, the value is the "
        "ratio of the largest size to the smallest.",
        table(["row", "what grows", "figures", "judged", "value", "target"], cells),
    ]


def only_growth():
    """Measures growth only, and replaces that section. For machines that are too busy for the other figures."""
    cpu, _, today = machine()
    load = os.getloadavg()[0]
    note = f"Made by `benches/bench.py growth` on {today}, separately from the other sections: {cpu}, shared with other work (load {load:.1f})."
    head, *rest = growth()
    results = HERE / "RESULTS.md"
    before, _, after = results.read_text().partition(GROWTH + "\n")
    # A section ends where the next one begins.
    _, mark, after = after.partition("\n## ")
    text = [before.rstrip(), head, note, *rest, *([mark.strip() + " " + after.strip()] if mark else [])]
    results.write_text("\n\n".join(text) + "\n")
    print("\n\n".join([note, *rest]))


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)])


def bars(title, unit, rows):
    """Returns one group of the chart, with bars relative to the longest one."""
    longest = max(value for _, value, _ in rows)
    lines, y = [f'<text x="0" y="14" class="t">{html.escape(title)}</text>'], 28
    for label, value, ours in rows:
        width = max(1, 380 * value / longest)
        kind = "o" if ours else "p"
        lines.append(f'<text x="250" y="{y + 12}" class="l">{html.escape(label)}</text>')
        lines.append(f'<rect x="258" y="{y}" width="{width:.0f}" height="16" class="{kind}"/>')
        lines.append(f'<text x="{258 + width + 6:.0f}" y="{y + 12}" class="v">{value:,.0f}{unit}</text>')
        y += 22
    return "\n".join(lines), y + 14


def chart(groups, caption):
    parts, y = [], 10
    for group in groups:
        body, height = bars(*group)
        parts.append(f'<g transform="translate(10,{y})">\n{body}\n</g>')
        y += height
    for line in caption:
        parts.append(f'<text x="10" y="{y + 10}" class="c">{html.escape(line)}</text>')
        y += 16
    style = (
        "text{font-family:system-ui,sans-serif;fill:#333}.t{font-size:14px;font-weight:600}.l{font-size:12px;text-anchor:end}"
        ".v{font-size:12px}.c{font-size:10px;fill:#666}.o{fill:#c2410c}.p{fill:#94a3b8}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 {y + 10}" width="740" height="{y + 10}" role="img">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n<style>{style}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def main():
    cpu, versions, today = machine()
    print("in process …", file=sys.stderr)
    rows = in_process()
    print("over sockets …", file=sys.stderr)
    tokens, memory = over_sockets(TOKENS, "token")
    routes, _ = over_sockets(ROUTES, "open")
    hello, standalone, system = starts()
    flood, guessing = [
        subprocess.run([str(BIN / name)], capture_output=True, text=True, check=True).stdout for name in ("flood", "guessing")
    ]
    judge("first response of `standalone` / hello", f"{system / hello:.2f} ×", "≤ 2")
    for cores, when, callers, *_, ratio in [line.strip("| ").split(" | ") for line in guessing.splitlines() if line.startswith("| ")][1:]:
        judge(f"p99 in a flood of wrong secrets, {cores} cores, {when}, {callers}", ratio, "≤ 2")

    median = statistics.median
    text = [
        "# Benchmark results",
        f"Made by `scripts/bench` on {today}: {cpu}. {versions}.",
        "Machines differ, so compare the ratios. In process, a row is two pieces of work measured in turn in one run, in batches "
        "of 16. Times are medians with quartiles. A ratio or difference is the median over all rounds, so that a machine that is "
        "slow for a while is slow for both. Targets are those of the project.",
        "## In process",
        table(
            ["subject", "compared with", "ns", "quartiles", "ns of that", "ratio", "target"],
            [[what, reference, own, f"{low} to {high}", other or "", f"{ratio}" if ratio else "", f"≤ {most}" if most else ""]
             for what, reference, own, low, high, other, ratio, most in rows],
        ),
        "## Over sockets: tokens",
        f"HTTP/1.1 on the loopback, `wrk` with {CONNECTIONS} connections on one core, one server process on the other, "
        f"{ROUNDS} rounds of {SECONDS} s in turn: median, minimum and maximum. Ten clients; JWTs with ES256 unless stated "
        "otherwise.",
        table(
            ["server", "tokens/s", "relative to ours", "relative to hello", "bytes per token"],
            [[TOKENS[name], spread(rates), ratio(rates, tokens["ours"]), ratio(rates, tokens["hello"]),
              f"{median(memory[name]):,.0f}"] for name, rates in tokens.items()],
        ),
        "## Over sockets: a protected route",
        "Every request has the same token, as for a real client.",
        table(
            ["server", "requests/s", "relative to the open route"],
            [[ROUTES[name], spread(rates), ratio(rates, routes["open"])] for name, rates in routes.items()],
        ),
        "## Start-up",
        f"Time from the start of the process to the first response, median of 40 in turn: an axum hello server takes "
        f"{hello:.1f} ms; the example `standalone`, which generates an ES256 key and has a client with the digest of a "
        f"generated secret, takes {system:.1f} ms ({system / hello:.2f} ×, target: ≤ 2) if aws-lc is built with "
        f"`AWS_LC_SYS_NO_JITTER_ENTROPY=1`, and {standalone:.1f} ms without: aws-lc then gathers its own entropy in addition to "
        "the system's before the first random bits. `standalone` generates no RSA key; the table above has its cost.",
        "## Under overload",
        flood.strip(),
        "### Wrong secrets for another client",
        "Two clients have secrets chosen by people (argon2id). One receives 800 wrong secrets a second. The other requests a "
        "token, again 10 ms after each response, 100 times without other requests and 100 times during the flood, in four "
        "rounds. *Before the limit*: every wrong secret that gets a place in the queue is hashed. By default that ends after 10 a "
        "minute from one address and 100 for the client; here both limits are lifted. *After the limit*: the default limits are "
        "reached, in a minute that does not end. The server can compute one hash per core at a time. The callers run on one "
        "core, which a server on two cores shares. Target for the p99: ≤ 2 ×.",
        guessing.strip(),
        *growth(),
    ]
    (HERE / "RESULTS.md").write_text("\n\n".join(text) + "\n")
    groups = [
        ("Tokens per second, on one core", "", [(TOKENS[name].replace("`", ""), median(rates), name.startswith("ours")) for name, rates in tokens.items()]),
        ("Requests per second to a protected route, on one core", "", [(ROUTES[name], median(rates), name == "protected") for name, rates in routes.items()]),
    ]
    caption = [f"{cpu}; {today}; made by scripts/bench. HTTP/1.1, {CONNECTIONS} connections, JWTs with ES256.", *textwrap.wrap(versions, 120)]
    (HERE.parent / "manual/chart.svg").write_text(chart(groups, caption))
    print("\n\n".join(text))


if sys.argv[1:] == ["growth"]:
    only_growth()
else:
    main()
end()
