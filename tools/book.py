#!/usr/bin/env python3
"""Checks the pages of docs/ and lays them out as a book.

    python3 tools/book.py               # checks: every page once in docs/SUMMARY.md, no broken link, file or page that is not there
    python3 tools/book.py --lay         # lays the pages into target/book/pages, too, for mdBook
    python3 tools/book.py --built       # checks the links of what mdBook made of them in target/book/html

`tools/book.sh` does all three. Names of pages in code, as `docs/vectors.md`, become links in the book. Needs Python 3.9, nothing else.
"""

import glob
import html.parser
import os
import re
import shutil
import sys
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGES, HTML = (os.path.join(ROOT, "target", "book", name) for name in ("pages", "html"))
SUMMARY = "docs/SUMMARY.md"
# What a build, a run or a user makes: named on pages, not in the repository.
MADE = ("python/target", "python/dist", "web/dist", "web/target", "web/test/node_modules")
FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1`*~* *$", re.M | re.S)
COMMENT = re.compile(r"<!--.*?-->", re.S)
LINK = re.compile(r"!?\[[^][]*\]\(([^()\s]+)\)")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def blank(match):
    """As many lines, with nothing on them: line numbers stay."""
    return "\n" * match.group().count("\n")


def prose(text):
    """A page without its blocks of code and its comments."""
    return COMMENT.sub(blank, FENCE.sub(blank, text))


def places(text):
    """Each heading's name in an address, as mdBook and hosts of repositories make it."""
    found = set()
    for title in re.findall(r"^#+ +(.*?)#* *$", prose(text), re.M):
        name = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        names = [name] + [f"{name}-{count}" for count in range(1, 100)]
        found.add(next(one for one in names if one not in found))
    return found


def chapters():
    """The files that the summary names, from the repository's root, in its order."""
    names = LINK.findall(read(SUMMARY))
    return [os.path.normpath(os.path.join("docs", name)) for name in names]


def laid(path):
    """What a file is called among the book's pages."""
    return path[len("docs/"):] if path.startswith("docs/") else path.replace("/", "-")


def named(page, span):
    """The file or folder that a piece of code on a page names, or None where it is no path of the repository's; then whether it is there."""
    span = span.rstrip("/")
    first = span.split("/")[0]
    if not re.fullmatch(r"[\w.*{},-][\w.*{},/-]*", span) or "NAME" in span or span.startswith(MADE):
        return None
    if first in ("docs", "tools", "training", "benchmarks", "crates", "models", ".ci") and "/" in span:
        candidates = [span]
    elif os.path.isdir(os.path.join(ROOT, "crates", first)) and "/" in span:
        candidates = [os.path.join("crates", span), span]
    elif re.fullmatch(r"[\w-]+\.md", span):
        candidates = [os.path.join(os.path.dirname(page), span), os.path.join("docs", span), span]
    else:
        return None
    for candidate in candidates:
        if all(glob.glob(os.path.join(ROOT, one)) for one in braces(candidate)):
            return candidate, True
    return candidates[0], False


def braces(pattern):
    """a{b,c}d → abd, acd."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        return [pattern]
    return [one for part in match.group(1).split(",") for one in braces(pattern[: match.start()] + part + pattern[match.end():])]


def problems():
    """What is wrong with the pages, a line each."""
    found, listed = [], chapters()
    for path in sorted(set(listed)):
        if listed.count(path) > 1:
            found.append(f"{SUMMARY}: {path} stands there {listed.count(path)} times")
        if not os.path.exists(os.path.join(ROOT, path)):
            found.append(f"{SUMMARY}: {path} is not there")
    pages = sorted(path for path in os.listdir(os.path.join(ROOT, "docs")) if path.endswith(".md"))
    for page in (os.path.join("docs", name) for name in pages):
        if page not in listed and page != SUMMARY:
            found.append(f"{SUMMARY}: {page} is not in it")
    for page in (path for path in listed if os.path.exists(os.path.join(ROOT, path))):
        found += problems_of(page)
    return found


def problems_of(page):
    text = prose(read(page))
    begin = re.match(r"# .+\n+(.*)", text)
    found = []
    if not begin or not re.match(r"[^\s|#>-]", begin.group(1)):
        found.append(f"{page}:1: a page begins with its title and a sentence that says what it is, and for whom")
    for number, line in enumerate(text.split("\n"), 1):
        code = CODE.sub("", line)
        for target in LINK.findall(code):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, place = urllib.parse.unquote(target).partition("#")
            file = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if not os.path.exists(os.path.join(ROOT, file)):
                found.append(f"{page}:{number}: ({target}) leads nowhere")
            elif place and file.endswith(".md") and place not in places(read(file)):
                found.append(f"{page}:{number}: {file} has no heading #{place}")
        for span in CODE.findall(line):
            name = named(page, span)
            if name and not name[1]:
                found.append(f"{page}:{number}: `{span}` is not in the repository")
    return found


def lay():
    """Lays the chapters and what they show into one folder."""
    listed = chapters()
    shutil.rmtree(PAGES, ignore_errors=True)
    os.makedirs(PAGES)
    for page in listed:
        write(laid(page), linked(page, read(page), listed))
    write("SUMMARY.md", LINK.sub(lambda m: m.group().replace(m.group(1), laid(os.path.normpath(os.path.join("docs", m.group(1))))), read(SUMMARY)))
    for name in os.listdir(os.path.join(ROOT, "docs")):
        if not name.endswith(".md"):
            shutil.copy(os.path.join(ROOT, "docs", name), PAGES)


def write(name, text):
    with open(os.path.join(PAGES, name), "w", encoding="utf-8") as file:
        file.write(text)


def linked(page, text, listed):
    """A page whose links lead to where its targets lie in the book; pages that it names in code are links."""
    def link(match):
        target = match.group(1)
        if re.match(r"[a-z]+:|#", target):
            return match.group()
        path, sign, place = target.partition("#")
        file = os.path.normpath(os.path.join(os.path.dirname(page), path))
        name = laid(file) if file in listed else os.path.basename(file)
        return match.group().replace(f"({target})", f"({name}{sign}{place})")

    def code(match):
        name = named(page, match.group(1))
        return f"[{match.group()}]({laid(name[0])})" if name and name[0] in listed and name[0] != page else match.group()

    out, at = [], 0
    for kept in re.finditer(f"{FENCE.pattern}|{COMMENT.pattern}", text, re.M | re.S):
        # of what stands behind a fence (tools/commands.py) the language alone is for readers
        block = re.sub(r"\A( *```+\w+) [^\n]*", r"\1", kept.group())
        out += [CODE.sub(code, LINK.sub(link, text[at:kept.start()])), block]
        at = kept.end()
    return "".join(out + [CODE.sub(code, LINK.sub(link, text[at:]))])


class Links(html.parser.HTMLParser):
    """The addresses and the places of one file."""

    def __init__(self):
        super().__init__()
        self.to, self.places = [], set()

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.to.append(value)
            elif name == "id":
                self.places.add(value)


def built():
    """What is wrong with the links of the book as it was built."""
    files, found = {}, []
    for path in glob.glob(os.path.join(HTML, "*.html")):
        files[path] = Links()
        with open(path, encoding="utf-8") as file:
            files[path].feed(file.read())
    for path, links in sorted(files.items()):
        name = os.path.basename(path)
        for target in links.to if name not in ("404.html", "print.html") else []:
            if re.match(r"[a-z]+:", target):
                continue
            to, _, place = urllib.parse.unquote(target.partition("?")[0]).partition("#")
            file = os.path.normpath(os.path.join(HTML, to)) if to else path
            if not os.path.exists(file):
                found.append(f"{name}: {target} leads nowhere")
            elif place and file in files and place not in files[file].places:
                found.append(f"{name}: {target} names no place")
    return found if files else [f"{HTML} has no pages"]


def main():
    way = sys.argv[1:]
    if way not in ([], ["--lay"], ["--built"]):
        sys.exit(__doc__)
    found = built() if way == ["--built"] else problems()
    print("\n".join(found) if found else f"{len(chapters())} chapters, no broken link", file=sys.stderr if found else sys.stdout)
    if found:
        sys.exit(1)
    if way == ["--lay"]:
        lay()


if __name__ == "__main__":
    main()
