#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sbom.py - the parts of a built rerankd as an SPDX 2.3 document.

  tools/sbom.py PROGRAM > rerankd.spdx.json

Libraries come from the program itself (ldd), names and versions from the package manager that installed
them.  The time is SOURCE_DATE_EPOCH, so the same program gives the same document.
"""
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=False).stdout


def libraries(program):
    """Real paths of what the program is linked with, in order of their names."""
    return sorted({os.path.realpath(p) for p in
                   re.findall(r"=> (/\S+)", output("ldd", program))})


def packages(paths):
    """(package, version) of each library by dpkg; merged /usr has two names for a file."""
    names = {n: p for p in paths for n in (p, p.replace("/usr/lib/", "/lib/", 1), "/usr" + p)}
    owners = {}
    for line in output("dpkg-query", "--search", *names).splitlines():
        owner, _, name = line.rpartition(": ")
        if name in names:
            owners[names[name]] = owner.split(":")[0]
    listed = output("dpkg-query", "-W", "-f=${Package} ${Version}\\n", *set(owners.values()))
    versions = dict(line.split(" ") for line in listed.splitlines())
    return sorted({(owners.get(p, os.path.basename(p)), versions.get(owners.get(p), "unknown"))
                   for p in paths})


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def part(name, version, licence="NOASSERTION", **more):
    return dict({"SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", name), "name": name,
                 "versionInfo": version, "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
                 "licenseConcluded": licence, "licenseDeclared": licence,
                 "copyrightText": "NOASSERTION"}, **more)


def document(program):
    with open(os.path.join(ROOT, "include", "rerank.h"), encoding="utf-8") as f:
        version = re.search(r'RR_VERSION "(.*)"', f.read()).group(1)
    when = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")),
                                           datetime.timezone.utc)
    digest = sha256(program)
    parts = [part("rerankd", version, "Apache-2.0",
                  checksums=[{"algorithm": "SHA256", "checksumValue": digest}])]
    for name, number in packages(libraries(program)):
        parts.append(part(name, number, externalRefs=[{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
            "referenceLocator": "pkg:deb/debian/%s@%s" % (name, number)}]))
    return {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": "rerankd-" + version,
        "documentNamespace": "urn:rerankd:%s:%s" % (version, digest),
        "creationInfo": {"created": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
                         "creators": ["Tool: rerankd-sbom"]},
        "packages": parts,
        "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                           "relatedSpdxElement": parts[0]["SPDXID"]}] +
                         [{"spdxElementId": parts[0]["SPDXID"], "relationshipType": "DEPENDS_ON",
                           "relatedSpdxElement": p["SPDXID"]} for p in parts[1:]]}


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: tools/sbom.py PROGRAM > FILE")
    json.dump(document(sys.argv[1]), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
