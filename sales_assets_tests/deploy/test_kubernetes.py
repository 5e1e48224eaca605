"""Kubernetes manifests: valid, restricted, secrets by reference, and the same commands as compose.yaml."""

import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from sales_assets_tests.deploy.artefacts import (
    DEPLOY,
    ENVIRONMENT,
    HOME,
    PROFILES,
    SECRET_SETTINGS,
    VERSION,
    compose,
    our_services,
    run,
    tool,
)

FOLDER = DEPLOY / "kubernetes"
MANIFESTS = sorted(file for file in FOLDER.glob("*.yaml") if not file.name.startswith(("kustomization", "values-")))
# Workloads that end, or accept no requests.
WITHOUT_PROBE = {"migrate", "mailings-beat"}
# The daemon creates the jobs of runs, the web server deletes them.
WITH_ACCOUNT = {"daemon", "webserver"}


def documents() -> list[dict[str, Any]]:
    return [one for file in MANIFESTS for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))]


def workloads() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, pod specification) of every workload."""
    for one in documents():
        if one["kind"] in ("Deployment", "Job"):
            template = one["spec"]["template"]
            yield template["metadata"]["labels"]["app.kubernetes.io/name"], template["spec"]


@pytest.mark.external
def test_kubernetes_validate_finds_nothing() -> None:
    done = run(tool("kubernetes-validate"), "--strict", *MANIFESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_kustomization_has_every_manifest() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert sorted(listed) == [file.name for file in MANIFESTS]


@pytest.mark.external
def test_kubernetes_commands_equal_those_of_compose() -> None:
    composed = our_services(compose(*PROFILES, **ENVIRONMENT))
    found = {name: pod["containers"][0]["command"] for name, pod in workloads()}
    # On Kubernetes, runs are jobs.
    assert found.keys() == composed.keys() - {"run-worker"}
    different = {name for name, command in found.items() if command != composed[name].argv}
    # On Kubernetes, Dagster's configuration is a ConfigMap.
    assert different == {"migrate"}
    assert found["migrate"] == ["sales-assets", "migrate"]


def test_job_name_and_image_tag_have_this_version() -> None:
    """A job is immutable, so a new version needs a new name."""
    assert f"migrate-{VERSION.replace('.', '-')}" in {one["metadata"]["name"] for one in documents()}
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
    values = yaml.safe_load((FOLDER / "values-dagster.yaml").read_text(encoding="utf-8"))
    assert [image["newTag"] for image in kustomization["images"]] == [VERSION]
    deployments = values["dagster-user-deployments"]["deployments"]
    assert [one["image"]["tag"] for one in deployments] == [VERSION]
    assert f"version {metadata.version('dagster')}" in (FOLDER / "values-dagster.yaml").read_text(encoding="utf-8")


def test_every_pod_is_restricted() -> None:
    """The Kubernetes profile `restricted`, and a read-only root file system."""
    for name, pod in workloads():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] == 10001, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod.get("automountServiceAccountToken", True) == (name in WITH_ACCOUNT), name
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert {HOME, "/tmp"} <= {mount["mountPath"] for mount in container["volumeMounts"]}, name
        assert container["resources"].keys() == {"requests", "limits"}, name
        assert ("livenessProbe" in container) == (name not in WITHOUT_PROBE), name


def test_secrets_are_references() -> None:
    for name, pod in workloads():
        (container,) = pod["containers"]
        for variable in container["env"]:
            if re.search("URL|PASSWORD|SECRET|TOKEN|KEY", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"], (name, variable["name"])
    plain = next(
        one["data"] for one in documents() if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "sales-assets"
    )
    assert not re.search("PASSWORD|SECRET|TOKEN|KEY|WAREHOUSE|RABBITMQ", " ".join(plain))
    assert not any(one["kind"] == "Secret" for one in documents())


@pytest.mark.external
def test_each_process_has_the_secrets_of_compose() -> None:
    composed = our_services(compose(*PROFILES, **ENVIRONMENT))
    # Kubernetes starts each run as a job, without a broker.
    without_broker = {"daemon", "webserver"}
    for name, pod in workloads():
        (container,) = pod["containers"]
        given = {one["name"]: one["valueFrom"]["secretKeyRef"]["key"] for one in container["env"] if "valueFrom" in one
                 and "secretKeyRef" in one["valueFrom"]}  # fmt: skip
        assert all(variable == key for variable, key in given.items()), name
        expected = {*composed[name].environment} & (SECRET_SETTINGS | {"MAILINGS_UNSUBSCRIBE_URL"})
        if name in without_broker:
            expected -= {"RABBITMQ_URL"}
        assert {*given} - {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} == expected, name


def test_selectors_match_existing_workloads() -> None:
    """A network policy, service or budget that selects no workload would silently have no effect."""
    names = {name for name, _ in workloads()}
    text = "\n".join(file.read_text(encoding="utf-8") for file in MANIFESTS)
    selected = set(re.findall(r"matchLabels: \{app\.kubernetes\.io/name: ([\w-]+)\}", text))
    for listed in re.findall(r"operator: In, values: \[([^\]]+)\]", text):
        selected |= set(listed.split(", "))
    assert selected <= names
    assert {
        one["metadata"]["name"] for one in documents() if one["kind"] in ("Service", "PodDisruptionBudget")
    } <= names


def test_a_disruption_budget_lets_nodes_be_drained() -> None:
    replicas = {one["metadata"]["name"]: one["spec"]["replicas"] for one in documents() if one["kind"] == "Deployment"}
    budgets = [one for one in documents() if one["kind"] == "PodDisruptionBudget"]
    assert {one["metadata"]["name"] for one in budgets} == {name for name, number in replicas.items() if number > 1}


def test_workspace_equals_that_of_compose() -> None:
    (found,) = [one["data"]["workspace.yaml"] for one in documents() if "workspace.yaml" in one.get("data", {})]
    assert yaml.safe_load(found) == yaml.safe_load((DEPLOY / "workspace.yaml").read_text(encoding="utf-8"))


@pytest.mark.external
def test_kustomize_sets_the_pushed_image_for_all_processes_and_run_jobs(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("THE KUSTOMIZATION IS NOT BUILT: there is no kubectl, and Debian has none that is recent enough")
    for file in FOLDER.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    kustomization = tmp_path / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("newName: sales_assets", "newName: pushed/sales"))
    done = run(kubectl, "kustomize", tmp_path)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    images = re.findall(r"(?:image:|DAGSTER_CURRENT_IMAGE\n\s+value:) (\S+)", done.stdout)
    assert set(images) == {f"pushed/sales:{VERSION}"}
    assert len(images) == len(list(workloads())) + 3
    # dagster.yaml and the manifests use this name.
    assert "sales-assets-dagster" in {one["metadata"]["name"] for one in built if one["kind"] == "ConfigMap"}
    assert {one["metadata"].get("namespace", "sales") for one in built} == {"sales"}
