#!/usr/bin/env python3
"""Writes an archive of made-up advisories in OSV's format, in the proportions of the published ones.

    advisories.py FILE RECORDS

Half are of npm and short, as most of that family are; the others are of Debian and Ubuntu with several
releases, lists of versions and texts, of PyPI, Go and Maven. The same numbers give the same archive.
"""

import json
import random
import sys
import zipfile

TEXT = "A specially crafted message makes the parser read beyond the end of its buffer. " * 6
VECTORS = [
    "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
    "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N",
    "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:N/I:N/A:H",
    "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
]


def affected(ecosystem, name, kind, fixed, versions):
    events = [{"introduced": "0"}] + ([{"fixed": fixed}] if fixed else [])
    return {
        "package": {"ecosystem": ecosystem, "name": name, "purl": f"pkg:generic/{name}"},
        "ranges": [{"type": kind, "events": events}],
        "versions": versions,
        "database_specific": {"source": f"https://example.com/{name}.json"},
    }


def record(number, rand):
    share = number % 20
    cve = f"CVE-{2010 + number % 16}-{number:06}"
    common = {
        "schema_version": "1.7.3",
        "published": "2025-01-02T03:04:05Z",
        "modified": f"2026-{1 + number % 5:02}-{1 + number % 28:02}T00:00:00.123456Z",
        "details": TEXT,
        "references": [
            {"type": "ADVISORY", "url": f"https://example.com/advisory/{number}"},
            {"type": "WEB", "url": f"https://example.com/commit/{number:040x}"},
        ],
    }
    vector = VECTORS[number % len(VECTORS)]
    severity = [{"type": "CVSS_V4" if ":4.0" in vector else "CVSS_V3", "score": vector}]
    if share < 10:
        entry = affected("npm", f"package-{number}", "SEMVER", None, ["1.0.0", "1.0.1"])
        return {**common, "id": f"MAL-2025-{number}", "summary": "Malicious code", "affected": [entry]}
    if share < 16:
        family, releases = ("Debian", ["11", "12", "13", "14"]) if share < 13 else (
            "Ubuntu", ["20.04:LTS", "22.04:LTS", "24.04:LTS", "Pro:18.04:LTS"])
        # Few packages have most of the advisories.
        name = f"source-{int(rand.paretovariate(0.7)) % 3000}"
        entries = []
        for release in releases:
            patch = rand.randrange(1, 60)
            versions = [f"1.{minor}.{number % 7}-{revision}+deb12u1" for minor in range(patch % 12)
                        for revision in range(1, 4)]
            fixed = f"1.{patch}.0-1" if patch % 5 else None
            entries.append(affected(f"{family}:{release}", name, "ECOSYSTEM", fixed, versions))
        return {**common, "id": f"{family.upper()}-{cve}", "upstream": [cve], "affected": entries,
                "severity": severity}
    family = ["PyPI", "Go", "Maven", "npm"][share - 16]
    name = f"group:artifact-{number % 5000}" if family == "Maven" else f"module-{number % 5000}"
    entry = affected(family, name, "SEMVER" if family in ("Go", "npm") else "ECOSYSTEM",
                     f"2.{number % 40}.0", [])
    return {**common, "id": f"GHSA-{number:08}", "aliases": [cve], "summary": f"Problem in {name}",
            "affected": [entry], "severity": severity, "database_specific": {"severity": "MODERATE"}}


def main():
    path, count = sys.argv[1], int(sys.argv[2])
    rand = random.Random(7)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for number in range(count):
            one = record(number, rand)
            archive.writestr(f"{one['id']}.json", json.dumps(one))


main()
