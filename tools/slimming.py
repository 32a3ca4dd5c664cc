#!/usr/bin/env python3
"""Lines of crates/*/src that commits since one took away on balance, those that added lines left aside: `tools/slimming.py 733f070`.

Commits that both slim and add are counted with what is left of both, so the sum is a lower bound of what slimming took; what a commit takes may have
been written after the first one, so it is an upper bound of what older code lost.
"""
import re
import subprocess
import sys

log = subprocess.run(
    ["git", "log", "--no-merges", "--format=@%h %s", "--numstat", "-M", f"{sys.argv[1]}..HEAD"],
    capture_output=True, text=True, check=True,
).stdout
rows = []
for line in log.splitlines():
    if line.startswith("@"):
        rows.append([0, line[1:]])
    elif line.strip():
        added, gone, path = line.split("\t", 2)
        if added != "-" and re.match(r"crates/.*src/.*\.rs", path):
            rows[-1][0] += int(added) - int(gone)
slim = sorted(row for row in rows if row[0] < 0)
for change, commit in slim:
    print(f"{change:6} {commit}")
print(f"{sum(change for change, _ in slim)} in {len(slim)} of {len(rows)} commits; all together {sum(r[0] for r in rows):+}")
