"""The part of KubeRay's RayJob schema that rayjob.yaml uses, cut out of the whole, which has 1.4 MB.

    python -m tests.jobs.rayjob_schema ray.io_rayjobs.yaml

renews `data/rayjob_schema.json` after checking the manifest against the whole, which is
`helm-chart/kuberay-operator/crds/ray.io_rayjobs.yaml` of ray-project/kuberay (Apache-2.0), at v1.7.0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "jobs" / "kuberay" / "rayjob.yaml"
PART = Path(__file__).parent / "data" / "rayjob_schema.json"

KEPT = (
    *("type", "enum", "required", "minimum", "maximum", "minItems", "maxItems", "pattern", "anyOf", "format"),
    *("additionalProperties", "x-kubernetes-int-or-string"),
)
"""What is copied of each part; descriptions and rules that only a server evaluates are not."""


def part_of(schema: dict[str, Any], value: Any) -> dict[str, Any]:
    """The schema with only those properties that a value has; it allows no others."""
    found = {key: schema[key] for key in KEPT if key in schema}
    if isinstance(value, dict) and "properties" in schema:
        inner = schema["properties"]
        found["properties"] = {key: part_of(inner[key], value[key]) for key in value if key in inner}
        found["additionalProperties"] = False
    if isinstance(value, list):
        whole = [part_of(schema["items"], item) for item in value]
        found["items"] = _merged(whole)
    return found


def _merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = _merged([merged[key], value]) if both else value
    return merged


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as `kubectl` applies it: a key that it does not name is a mistake."""
    found = {key: closed(value) if isinstance(value, dict) else value for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        found.setdefault("additionalProperties", False)
    return found


def errors(schema: dict[str, Any], value: Any) -> Iterator[str]:
    """Where a value breaks a schema."""
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(schema).iter_errors(value):
        yield f"{'.'.join(map(str, error.absolute_path))}: {error.message}"


def main(file: str) -> None:
    """Checks the manifest against the whole, and writes the part."""
    definition = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    (version,) = [one for one in definition["spec"]["versions"] if one["storage"]]
    whole = version["schema"]["openAPIV3Schema"]
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    whole["properties"]["metadata"] = {"type": "object"}  # the server's own
    broken = list(errors(closed(whole), manifest))
    if broken:
        sys.exit("\n".join(broken))
    source = definition["metadata"]["annotations"] | {"group": definition["spec"]["group"]}
    part = {"$comment": f"part of KubeRay's schema of a RayJob (Apache-2.0): {source}"}
    part |= part_of(whole, manifest)
    PART.write_text(json.dumps(part, indent=1) + "\n", encoding="utf-8")
    print(f"{MANIFEST.name} fits the whole schema; {PART.name} has {PART.stat().st_size:,} bytes of it")


if __name__ == "__main__":
    main(sys.argv[1])
