#!/usr/bin/env python3
"""Builds an image to measure scanners with: 12 layers, 500 MB unpacked.

    scan-image.py INPUTS LAYOUT ARCHIVE

INPUTS is the directory that need_scan_inputs of lib.sh prints: a Debian system, and packages of
Node.js, Python and Java, a layer each. The rest are layers of an application as it changes: its
files, half text and half noise, and packages beside them. The same image is written as an OCI
layout with compressed layers and as an archive as `docker save` writes it.
"""

import gzip
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile

LAYERS = 12
SIZE = 500_000_000
WORDS = [line.encode() for line in "the build of a release takes every layer apart and looks for what was put into it".split()]


def packed(directory, *options):
    """The content of a directory as a tar archive."""
    command = ["tar", "-C", directory, "--numeric-owner", "--sort=name", "--mtime=@0", *options, "-cf", "-", "."]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def generated(number, size):
    """A layer of an application of about a size."""
    chance = random.Random(number)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:

        def add(name, content):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            layer.addfile(entry, io.BytesIO(content))

        for at in range(60):
            name = f"part-{number}-{at}"
            manifest = json.dumps({"name": name, "version": f"{number}.{at}.0", "license": "MIT"})
            add(f"srv/app/node_modules/{name}/package.json", manifest.encode())
        while buffer.tell() < size:
            length = min(int(chance.paretovariate(0.6) * 2000), 20_000_000, size - buffer.tell() + 2000)
            text = b" ".join(chance.choices(WORDS, k=min(length // 8, 2000))) + b"\n"
            half = length // 2
            content = (text * (half // len(text) + 1))[:half] + chance.randbytes(length - half)
            add(f"srv/app/{number}/{chance.randrange(50)}/{chance.randrange(10**9)}.dat", content)
    return buffer.getvalue()


def main():
    inputs, layout, archive = sys.argv[1:]
    with open(os.path.join(inputs, "debian.tar"), "rb") as base:
        layers = [base.read()]
    moved = {"npm": "srv/shop", "python": "opt/tools", "java": "srv/java"}
    for name, place in moved.items():
        layers.append(packed(os.path.join(inputs, name), f"--transform=s,^\\.,./{place},"))
    left = SIZE - sum(map(len, layers))
    more = LAYERS - len(layers)
    layers += [generated(number, left // more) for number in range(more)]

    digest = lambda content: "sha256:" + hashlib.sha256(content).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
            "history": [{"created_by": f"layer {number}"} for number in range(len(layers))],
        }
    ).encode()

    os.makedirs(os.path.join(layout, "blobs/sha256"))

    def blob(content, kind):
        with open(os.path.join(layout, "blobs", digest(content).replace(":", "/")), "wb") as file:
            file.write(content)
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": digest(content),
            "size": len(content),
        }

    compressed = [blob(gzip.compress(layer, 6, mtime=0), "layer.v1.tar+gzip") for layer in layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(config, "config.v1+json"),
        "layers": compressed,
    }
    manifest = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    for name, content in [
        ("index.json", {"schemaVersion": 2, "manifests": [manifest]}),
        ("oci-layout", {"imageLayoutVersion": "1.0.0"}),
    ]:
        with open(os.path.join(layout, name), "w") as file:
            json.dump(content, file)

    with tarfile.open(archive, "w") as image:

        def add(name, content):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            image.addfile(entry, io.BytesIO(content))

        names = [f"{digest(layer)[7:]}/layer.tar" for layer in layers]
        for name, layer in zip(names, layers):
            add(name, layer)
        add("config.json", config)
        document = [{"Config": "config.json", "RepoTags": ["bench:1"], "Layers": names}]
        add("manifest.json", json.dumps(document).encode())
    print(f"{len(layers)} layers, {sum(map(len, layers))} bytes")


main()
