#!/usr/bin/env python3
"""Runs the commands of pages, and fails where what they print is no longer what the page shows.

    python3 tools/commands.py [PAGE...] [--programs target/release] [--python PYTHON] [--data FOLDER] [--with WORD]...
                              [--folder FOLDER] [--from N] [--list]

Pages by default: README.md and docs/*.md. What a page has to have (the words behind the fence are not shown to a reader):

    ```console needs torch, train.csv; within 5 %
    $ polyveil compile net.pvm -o net.plan
    each value of the answer is within 1.5e-4 of …
    ```

* A line with `$` in front is a command, for bash; `\\` at its end continues it. The lines below it are among what it prints (on either
  stream), in this order; others may stand between them. `…` within a line stands for anything. Spaces count as one. A command must succeed.
* A line with `#` in front is a remark.
* `within 5 %`: numbers may be off by so much, or by one in the last place shown. Without it they are equal.
* `needs A, B`: a file of --data, which is linked into the folder under the same name; a module that --python has; or any other word,
  as `bootstraps`, `cargo`, which --with gives. Where something is not there the block is left out, and counted.
* `fails`: the last command ends with a code other than 0.
* `in the repository`: runs there, not in the page's folder.
* `alone`: does not need the page's earlier blocks. Others are left out once one before them was left out, or was wrong.

    ```python file make.py          a block that becomes a file
    <!-- before: needs torch        commands that make what a page takes for granted (somebody's network, pictures); not shown
    python make.py
    -->

All blocks of a page run in one new folder (--folder keeps it; --from N goes on in it with block N, as --list counts). `$REPOSITORY` is the
repository. What a block starts with `&` is ended with the page. Needs Python 3.9, nothing else.
"""

import argparse
import dataclasses
import difflib
import glob
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BLOCK = re.compile(r"^```(?P<terms>[^\n`]*)\n(?P<body>.*?)^```[ \t]*$|^<!-- before(?P<before>[^\n]*)\n(?P<hidden>.*?)^-->[ \t]*$", re.M | re.S)
NUMBER = re.compile(r"[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
# Between what one command prints and the next one's: no program prints it.
MARK = "\x1e"


@dataclasses.dataclass
class Block:
    number: int
    line: int
    kind: str  # "console", "file", "before"
    body: str
    needs: list = dataclasses.field(default_factory=list)
    within: float = 0.0
    fails: bool = False
    here: bool = False
    alone: bool = False
    name: str = ""


class Wrong(Exception):
    """What a block has that is not in the notation, or prints that the page does not say."""


def blocks_of(text):
    """The page's blocks in the notation, and how many others there are."""
    found, others = [], 0
    for match in BLOCK.finditer(text):
        hidden = match.group("terms") is None
        kind, _, terms = ("before", "", match.group("before").lstrip(":")) if hidden else match.group("terms").strip().partition(" ")
        line = text.count("\n", 0, match.start()) + 1
        name = re.fullmatch(r"file (\S+)", terms.strip()) if not hidden else None
        if not hidden and not name and kind != "console":
            others += 1
            continue
        block = Block(len(found) + 1, line, "file" if name else kind, match.group("hidden" if hidden else "body"))
        if name:
            block.name = name.group(1)
        else:
            read_terms(block, terms)
        found.append(block)
    return found, others


def read_terms(block, terms):
    for term in filter(None, (term.strip() for term in terms.split(";"))):
        word, _, rest = term.partition(" ")
        share = re.fullmatch(r"([\d.]+) ?%", rest)
        if word == "needs" and rest:
            block.needs = [need.strip() for need in rest.split(",")]
        elif word == "within" and share:
            block.within = float(share.group(1)) / 100
        elif term == "fails":
            block.fails = True
        elif term == "in the repository":
            block.here = True
        elif term == "alone":
            block.alone = True
        else:
            raise Wrong(f"line {block.line}: `{term}` is no term; there are needs A, B; within N %; fails; in the repository; alone")


def commands_of(block):
    """Each command with the lines that it shall print."""
    if block.kind == "before":
        return [(block.body, [])]
    found, lines = [], block.body.rstrip("\n").split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("$ "):
            command = [line[2:]]
            while command[-1].endswith("\\") and at + 1 < len(lines):
                at += 1
                command.append(lines[at])
            found.append(("\n".join(command), []))
        elif line.strip() and not line.startswith("#"):
            if not found:
                raise Wrong(f"line {block.line}: a console begins with a command, `$ …`")
            found[-1][1].append(line)
        at += 1
    return found


def value(number):
    return float(number.replace("−", "-").replace(",", ""))


def last_place(number):
    """One in the last place of a number as it is written."""
    mantissa, _, exponent = number.partition("e")
    _, _, digits = mantissa.partition(".")
    return 10.0 ** (int(exponent or 0) - len(digits))


def alike(shown, printed, within):
    """Whether a printed line is what the page shows."""
    shown, printed = " ".join(shown.split()), " ".join(printed.split())
    parts = [part.strip() for part in shown.split("…")]
    numbers = NUMBER.findall(shown)
    # the same words; numbers in groups of their own
    number = f"({NUMBER.pattern})"
    pattern = r"\s*.*?\s*".join(number.join(re.escape(text) for text in NUMBER.split(part)) for part in parts)
    match = re.fullmatch(pattern, printed)
    if not match:
        return False
    for said, got in zip(numbers, match.groups()):
        if said == got:
            continue
        far = abs(value(said) - value(got))
        if within == 0 or far > max(within * abs(value(said)), last_place(said) * 1.001):
            return False
    return True


def compare(command, shown, printed, within):
    at = 0
    for line in shown:
        while at < len(printed) and not alike(line, printed[at], within):
            at += 1
        if at == len(printed):
            near = difflib.get_close_matches(line.strip(), [one.strip() for one in printed], 1, 0.3)
            raise Wrong(f"$ {command}\n  the page shows   {line.strip()}\n  it prints        {near[0] if near else '(nothing like it)'}")
        at += 1


class Page:
    """One page's folder, and what its blocks find there."""

    def __init__(self, options, path):
        self.options, self.path, self.groups = options, path, []
        self.folder = os.path.abspath(options.folder) if options.folder else tempfile.mkdtemp(prefix="polyveil-page-")
        os.makedirs(self.folder, exist_ok=True)
        self.bin = tempfile.mkdtemp(prefix="polyveil-python-")
        with open(os.path.join(self.bin, "python"), "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {shlex.quote(options.python)} "$@"\n')
        os.chmod(os.path.join(self.bin, "python"), 0o755)
        paths = [self.bin, os.path.abspath(options.programs), os.environ.get("PATH", "")]
        self.environment = {**os.environ, "PATH": os.pathsep.join(paths), "REPOSITORY": ROOT}

    def lacks(self, need):
        """Whether something is not there; a file that is there is linked into the folder."""
        if need in self.options.given:
            return False
        if "." in need or "/" in need:
            for found in self.candidates(need.rstrip("/")):
                place = os.path.join(self.folder, need.rstrip("/"))
                os.makedirs(os.path.dirname(place), exist_ok=True)
                if not os.path.lexists(place):
                    os.symlink(os.path.abspath(found), place)
                return False
            return True
        find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({need!r}) is None)"
        return not re.fullmatch(r"\w+", need) or subprocess.run([self.options.python, "-c", find], check=False).returncode != 0

    def candidates(self, need):
        if not self.options.data:
            return []
        below = need.removeprefix("data/")
        return [path for path in [os.path.join(self.options.data, below)] if os.path.exists(path)] + sorted(
            glob.glob(os.path.join(glob.escape(self.options.data), "**", os.path.basename(need)), recursive=True))

    def run(self, block):
        if block.kind == "file":
            with open(os.path.join(self.folder, block.name), "w", encoding="utf-8") as file:
                file.write(block.body)
            return
        commands = commands_of(block)
        # variables last as long as the page; what comes after a command that fails is not run
        state = shlex.quote(os.path.join(self.bin, "variables"))
        script = f"if [ -e {state} ]; then . {state}; fi; set -a\n"
        for command, _ in commands:
            script += f"{command}\ncode=$?; printf '\\n{MARK}%s\\n' $code; [ $code = 0 ] || exit 0\n"
        script += f"unset code; export -p > {state}\n"
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            shell = subprocess.Popen(["bash", "-c", script], cwd=ROOT if block.here else self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                                     stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
            self.groups.append(shell.pid)
            try:
                shell.wait(self.options.timeout)
            except subprocess.TimeoutExpired:
                raise Wrong(f"line {block.line}: not done after {self.options.timeout} s") from None
            output.seek(0)
            printed = output.read()
        parts = re.split(f"\n{MARK}(\\d+)\n", printed)
        for index, (command, shown) in enumerate(commands):
            if 2 * index + 1 >= len(parts):
                raise Wrong(f"$ {command}\n  was not reached")
            text, code = parts[2 * index], int(parts[2 * index + 1])
            should_fail = block.fails and index == len(commands) - 1
            if (code != 0) != should_fail:
                raise Wrong(f"$ {command}\n  ended with code {code}:\n" + "\n".join(text.rstrip().split("\n")[-12:]))
            compare(command, shown, text.split("\n"), block.within)

    def close(self, kept):
        for group in self.groups:
            try:
                os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.bin, ignore_errors=True)
        if not kept:
            shutil.rmtree(self.folder, ignore_errors=True)


def run_page(options, path):
    """How many blocks of a page were right, wrong and left out, and how many are not in the notation."""
    name = os.path.relpath(path, ROOT)
    right = wrong = left_out = 0
    try:
        with open(path, encoding="utf-8") as file:
            blocks, others = blocks_of(file.read())
    except Wrong as problem:
        print(f"{name}: {problem}")
        return 0, 1, 0, 0
    if options.list:
        for block in blocks:
            terms = f"  needs {', '.join(block.needs)}" if block.needs else ""
            print(f"{name}:{block.line}: block {block.number}, {block.name or block.kind}{terms}")
        return 0, 0, 0, others
    page = Page(options, path)
    broken = ""
    for block in blocks:
        begin = time.monotonic()
        if block.number < options.begin:
            continue
        missing = [need for need in block.needs if page.lacks(need)]
        why = f"needs {', '.join(missing)}" if missing else broken if not block.alone and block.kind != "file" else ""
        if why:
            left_out += block.kind == "console"
            broken = broken or ("" if block.alone else why if block.kind == "before" else "what came before it did not run")
            if block.kind == "console":
                print(f"{name}:{block.line}: left out: {why}")
            continue
        try:
            page.run(block)
            right += block.kind == "console"
            if block.kind == "console":
                print(f"{name}:{block.line}: right, {time.monotonic() - begin:.0f} s", flush=True)
        except Wrong as problem:
            wrong += 1
            broken = broken or ("" if block.alone else "what came before it was wrong")
            print(f"{name}:{block.line}: wrong:\n{problem}", flush=True)
    page.close(options.folder)
    return right, wrong, left_out, others


def main():
    parser = argparse.ArgumentParser(usage=__doc__.replace("%", "%%"))
    parser.add_argument("pages", nargs="*")
    parser.add_argument("--programs", default=os.path.join(ROOT, "target", "release"))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--data")
    parser.add_argument("--with", dest="given", action="append", default=[])
    parser.add_argument("--folder")
    parser.add_argument("--from", dest="begin", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=3600)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    pages = options.pages or [os.path.join(ROOT, "README.md")] + sorted(glob.glob(os.path.join(ROOT, "docs", "*.md")))
    if options.folder and len(pages) != 1:
        parser.error("--folder is for one page")
    right = wrong = left_out = others = 0
    for path in pages:
        a, b, c, d = run_page(options, os.path.abspath(path))
        right, wrong, left_out, others = right + a, wrong + b, left_out + c, others + d
    print(f"{others} blocks of these pages are not in the notation")
    print(f"{right} passed, {wrong} failed, {left_out} skipped")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
