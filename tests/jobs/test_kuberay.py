"""The RayJob of KubeRay: its schema, the operator's own rules, and what it says about the checkout."""

from __future__ import annotations

import copy
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from jobs import study
from tests.jobs.rayjob_schema import MANIFEST, PART, ROOT, errors

FOLDER = MANIFEST.parent


@pytest.fixture
def manifest() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    return found


def groups(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = manifest["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_the_manifest_fits_the_schema_and_a_slip_would_not(manifest: dict[str, Any]) -> None:
    schema = json.loads(PART.read_text(encoding="utf-8"))
    assert list(errors(schema, manifest)) == []
    slips = (
        (("spec", "backoffLimits"), 2, "'backoffLimits' was unexpected"),
        (("spec", "ttlSecondsAfterFinished"), "600", "'600' is not of type 'integer'"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "tokens", "'tokens' is not one of"),
        (
            ("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"),
            0,
            "0 is not of type 'string'",
        ),
        (
            ("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "container"),
            [],
            "unexpected",
        ),
        (("spec", "rayClusterSpec", "headGroupSpec", "template"), None, "None is not of type 'object'"),
    )
    for keys, value, said in slips:
        changed = copy.deepcopy(manifest)
        inside: Any = changed
        for key in keys[:-1]:
            inside = inside[key]
        inside[keys[-1]] = value
        (error,) = errors(schema, changed)
        assert said in error


def test_the_manifest_keeps_the_rules_of_operator_and_ray(manifest: dict[str, Any]) -> None:
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == ray.__version__, "a token needs it, and 2.52 at least"
    for group in groups(manifest):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"].endswith(f"/softprior:{ray.__version__}-py311")
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert not [one for one in container["env"] if re.search("TOKEN|KEY|PASSWORD", one["name"])]
    head, workers = groups(manifest)
    assert head["serviceType"] == "ClusterIP"
    assert head["rayStartParams"] == {"num-cpus": "0"}
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"], (
        "the driver takes the nodes that are there for all there will be"
    )
    assert "enableInTreeAutoscaling" not in cluster


def test_the_manifest_runs_a_study_of_the_image_and_writes_to_the_volume(manifest: dict[str, Any]) -> None:
    python, option, module, *arguments = shlex.split(manifest["spec"]["entrypoint"])
    assert (python, option, module) == ("python", "-m", "jobs.study")
    options = study._parser().parse_intermixed_args(arguments)
    dockerfile = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert f"\nFROM rayproject/ray:{ray.__version__}-py311-gpu\n" in dockerfile
    (home,) = re.findall(r"^WORKDIR (.*)$", dockerfile, re.MULTILINE)
    copied = {
        name for line in re.findall(r"^COPY \S+ (.*) \S+$", dockerfile, re.MULTILINE) for name in line.split()
    }
    assert all((ROOT / name).exists() for name in copied)
    assert {"platform", "jobs", "analysis", "requirements.lock"} <= copied
    assert (ROOT / Path(options.study).relative_to(home)).exists()
    claim = yaml.safe_load((FOLDER / "volume.yaml").read_text(encoding="utf-8"))
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for group in groups(manifest):
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "PYTHONPATH", "value": home} in container["env"]
        (mount,) = container["volumeMounts"]
        assert Path(options.results).is_relative_to(mount["mountPath"])
        (volume,) = group["template"]["spec"]["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_results_are_copied_by_a_pod_that_outlives_the_cluster(manifest: dict[str, Any]) -> None:
    reader = yaml.safe_load((FOLDER / "reader.yaml").read_text(encoding="utf-8"))
    (container,), (volume,) = reader["spec"]["containers"], reader["spec"]["volumes"]
    head = manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert [volume] == head["volumes"]
    (mount,) = container["volumeMounts"]
    assert mount.pop("readOnly")
    assert [mount] == head["containers"][0]["volumeMounts"]
    page = (ROOT / "docs" / "kuberay.md").read_text(encoding="utf-8")
    assert f"kubectl cp {reader['metadata']['name']}:{mount['mountPath']}/results results" in page
