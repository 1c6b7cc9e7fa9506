#!/usr/bin/env python3
"""Validates a document against a published schema: validate.py SCHEMAS KIND FILE.

KIND is cyclonedx, spdx or sarif; SCHEMAS is the directory that `need_schemas` of scripts/lib.sh
fills. Prints what is wrong, and ends with 1 if anything is.
"""

import json
import pathlib
import sys

import jsonschema
import referencing
import referencing.jsonschema

FILES = {
    "cyclonedx": "bom-1.6.SNAPSHOT.schema.json",
    "spdx": "spdx-2.3.schema.json",
    "sarif": "sarif-2.1.0.schema.json",
}


def read(path):
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))


def registry(schemas):
    """What the schema of CycloneDX refers to, by the names it uses."""
    resources = []
    for name in ("spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json"):
        content = read(schemas / name)
        resource = referencing.Resource.from_contents(
            content, default_specification=referencing.jsonschema.DRAFT7
        )
        own = content.get("$id", name)
        for uri in {own, name, name.replace(".SNAPSHOT", ""), f"http://cyclonedx.org/schema/{name}"}:
            resources.append((uri, resource))
    return referencing.Registry().with_resources(resources)


def main():
    schemas, kind, path = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    schema = read(schemas / FILES[kind])
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    judge = validator(schema, registry=registry(schemas), format_checker=validator.FORMAT_CHECKER)
    wrong = sorted(judge.iter_errors(read(path)), key=lambda error: list(map(str, error.path)))
    for error in wrong[:20]:
        print(f"{'/'.join(map(str, error.path))}: {error.message[:300]}")
    sys.exit(1 if wrong else 0)


main()
