#!/usr/bin/env python3
"""Runs every test there is and prints the totals: `make test`.

The suites, in order: the console's checks, the Rust tests on both databases, the examples in the documentation
comments, the console in a real browser, and the vendors' SDKs for Python and for Node. A suite that fails does not stop the next one. Nothing
is skipped: what a suite needs and the machine lacks is installed where this runs as root, and otherwise named, with the
command, before anything starts.

    tests/run.py [SUITE ...]     console rust docs browser sdk node_sdk; all of them by default

The last line is `N passed, N failed`, summed over the suites.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from glob import glob
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEXTEST_VERSION = "0.9.143"
# Colours would stand between a number and its word.
ENVIRONMENT = dict(os.environ, CARGO_TERM_COLOR="never", NO_COLOR="1", FORCE_COLOR="0")


@dataclass
class Result:
    suite: str
    passed: int
    failed: int
    seconds: float


def main():
    wanted = sys.argv[1:] or list(SUITES)
    if unknown := [name for name in wanted if name not in SUITES]:
        sys.exit(f"no suite {unknown[0]!r}; there are: {', '.join(SUITES)}")
    os.chdir(ROOT)
    prepare(wanted)
    results = []
    for name in wanted:
        print(f"\n== {name}: {SUITES[name].__doc__.splitlines()[0]}", flush=True)
        start = time.monotonic()
        passed, failed = SUITES[name]()
        results.append(Result(name, passed, failed, time.monotonic() - start))
    print(f"\n{'suite':<10}{'passed':>8}{'failed':>8}{'seconds':>9}")
    for result in results:
        print(f"{result.suite:<10}{result.passed:>8}{result.failed:>8}{result.seconds:>9.0f}")
    passed = sum(result.passed for result in results)
    failed = sum(result.failed for result in results)
    print(f"\n{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


# What must be on the machine.


def prepare(wanted):
    """Installs what is missing, or says how and ends."""
    packages, advice = [], []
    if not (shutil.which("initdb") or glob("/usr/lib/postgresql/*/bin/initdb")) and "rust" in wanted:
        packages.append("postgresql")
    if "browser" in wanted and not (os.environ.get("CHROMIUM") or find_chromium()):
        packages.append("chromium")
    if "sdk" in wanted and subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True).returncode:
        packages.append("python3-venv")
    if not shutil.which("cargo"):
        advice.append("Rust is missing: install rustup, see https://rustup.rs")
    if {"console", "browser", "node_sdk"} & set(wanted) and not (shutil.which("node") and shutil.which("npm")):
        advice.append("Node 20 and npm are missing: install them with your package manager")
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {', '.join(packages)}", flush=True)
        apt = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        subprocess.run(["apt-get", "update", "-qq"], env=apt, check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=apt, check=True)
    elif packages:
        advice.append(f"missing on this machine: sudo apt-get install {' '.join(packages)}")
    if advice:
        sys.exit("\n".join(advice))
    if "rust" in wanted and subprocess.run(["cargo", "nextest", "--version"], capture_output=True).returncode:
        print("building cargo-nextest, once per machine", flush=True)
        tools = dict(os.environ, CARGO_TARGET_DIR=str(cache() / "tools"))
        command = ["cargo", "install", "cargo-nextest", "--locked", "--version", NEXTEST_VERSION, "--quiet"]
        subprocess.run(command, env=tools, check=True)
    if {"console", "browser"} & set(wanted):
        install_console()


def cache():
    return Path(os.environ.get("LOCKGATE_CACHE") or Path.home() / ".cache" / "lockgate")


def find_chromium():
    return next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)


def install_console():
    """Installs what the lock file names, unless exactly that is installed."""
    lock, installed = ROOT / "web/package-lock.json", ROOT / "web/node_modules/.installed-lock.json"
    if installed.exists() and installed.read_bytes() == lock.read_bytes():
        return
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=ROOT / "web", check=True)
    shutil.copyfile(lock, installed)


# The suites: each gives how many tests passed and how many failed.


def console():
    """the console's types, lint, unit tests and size"""
    build_console()
    code, output = run(["npm", "run", "--silent", "check"], cwd=ROOT / "web")
    # vitest: `Tests  1 failed | 12 passed (13)`
    lines = re.findall(r"^\s*Tests\s+(.*)$", output, re.MULTILINE)
    passed, failed = count(" ".join(lines), "passed"), count(" ".join(lines), "failed")
    return judge(code, passed, failed)


def rust():
    """stories, REST, store and units, on SQLite and on Postgres"""
    binaries()
    code, output = run(["cargo", "nextest", "run", "--workspace", "--locked", "--show-progress=none", "--status-level=slow"])
    # `Summary [  12.3s] 120 tests run: 118 passed (1 slow), 1 failed, 1 timed out, 0 skipped`
    summary = "".join(re.findall(r"^\s*Summary .*$", output, re.MULTILINE)[-1:])
    failed = sum(count(summary, word) for word in ["failed", "timed out", "exec failed"])
    return judge(code, count(summary, "passed"), failed)


def docs():
    """the examples in documentation comments"""
    code, output = run(["cargo", "test", "--doc", "--workspace", "--locked", "--quiet"])
    lines = " ".join(re.findall(r"^test result: .*$", output, re.MULTILINE))
    return judge(code, count(lines, "passed"), count(lines, "failed"), may_be_empty=True)


def browser():
    """the console in Chromium, against the running product"""
    built = binaries()
    code, output = run(["npm", "run", "--silent", "e2e"], cwd=ROOT / "web", env=dict(ENVIRONMENT, **built))
    return judge(code, *node_totals(output))


def sdk():
    """the vendors' Python SDKs against the running product"""
    code, output = run([ROOT / "tests/sdk/run.sh"], env=dict(ENVIRONMENT, **binaries()))
    # pytest: `2 failed, 118 passed, 1 error in 31.40s`
    lines = " ".join(re.findall(r"^(?:=+ )?(.* in [\d.]+s.*)$", output, re.MULTILINE))
    return judge(code, count(lines, "passed"), count(lines, "failed") + count(lines, "errors?"))


def node_sdk():
    """the vendors' Node SDKs against the running product"""
    code, output = run([ROOT / "tests/sdk/node/run.sh"], env=dict(ENVIRONMENT, **binaries()))
    return judge(code, *node_totals(output))


SUITES = {suite.__name__: suite for suite in [console, rust, docs, browser, sdk, node_sdk]}


def binaries():
    """Builds the console, then the product with it inside, and names the programs for the suites."""
    if "LOCKGATE_BIN" not in ENVIRONMENT:
        if (ROOT / "web/node_modules").is_dir():
            build_console()
        # The programs come with the tests: built alone they would build every dependency a second time, with the
        # features that only the tests' own dependencies leave out.
        build = ["cargo", "test", "--workspace", "--no-run", "--locked", "--quiet"]
        subprocess.run(build, env=ENVIRONMENT, check=True)
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
        ENVIRONMENT["LOCKGATE_BIN"] = str(target / "lockgate")
        ENVIRONMENT["LOCKGATE_VENDORS_BIN"] = str(target / "vendors")
        if chromium := os.environ.get("CHROMIUM") or find_chromium():
            ENVIRONMENT["CHROMIUM"] = chromium
    return {name: ENVIRONMENT[name] for name in ["LOCKGATE_BIN", "LOCKGATE_VENDORS_BIN"]}


@functools.cache
def build_console():
    """Into web/dist, from where the product embeds it. A failure shows in the suite that needs it."""
    subprocess.run(["npm", "run", "--silent", "build"], cwd=ROOT / "web", env=ENVIRONMENT)


def run(command, cwd=ROOT, env=None):
    """Runs it, shows what it prints and keeps it."""
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env=env or ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    output = []
    for line in process.stdout:
        print(line, end="", flush=True)
        output.append(line)
    return process.wait(), "".join(output)


def node_totals(output):
    """What `node --test` says: `# pass 3` or, for people, `ℹ pass 3`."""
    passed = sum(map(int, re.findall(r"^[#ℹ] pass (\d+)$", output, re.MULTILINE)))
    failed = sum(map(int, re.findall(r"^[#ℹ] (?:fail|cancelled) (\d+)$", output, re.MULTILINE)))
    return passed, failed


def count(text, word):
    return sum(map(int, re.findall(rf"(\d+) {word}\b", text)))


def judge(code, passed, failed, may_be_empty=False):
    """A suite that ends badly without naming a failed test is one; so is one that ran nothing."""
    if code and not failed:
        failed = 1
    if not passed and not failed and not may_be_empty:
        print("this suite ran no test, which is a failure")
        failed = 1
    return passed, failed


if __name__ == "__main__":
    main()
