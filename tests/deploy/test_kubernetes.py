# SPDX-License-Identifier: Apache-2.0
"""deploy/kubernetes: valid for the oldest and newest Kubernetes that the validator knows of ours, and as the house wants it."""
import configparser
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

import config_keys
import kustomize

ROOT = config_keys.ROOT
FOLDERS = ["base", "command", "migrate", "overlays/split-stages"]
VERSIONS = ["1.27", "1.33"]


def objects(folder):
    return kustomize.build(os.path.join(ROOT, "deploy/kubernetes", folder))


def of_kind(items, kind):
    return [item for item in items if item["kind"] == kind]


@pytest.fixture(scope="session")
def validator():
    """A program that validates objects from its stdin against a version's schemas; its library comes from scripts/fetch."""
    folder = subprocess.run([os.path.join(ROOT, "scripts/fetch"), "kubernetes-validate"], check=True, capture_output=True,
                            text=True).stdout.strip()
    program = ("import json, sys, kubernetes_validate\n"
               "for item in json.load(sys.stdin):\n"
               "    kubernetes_validate.validate(item, sys.argv[1], strict=True)\n")

    def validate(items, version):
        return subprocess.run([sys.executable, "-c", program, version], input=json.dumps(items), text=True, capture_output=True,
                              env=dict(os.environ, PYTHONPATH=folder), check=False)
    return validate


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_valid(validator, folder, version):
    done = validator(objects(folder), version)
    assert done.returncode == 0, done.stderr


def test_the_validator_finds_a_mistake(validator):
    items = objects("base")
    of_kind(items, "Deployment")[0]["spec"]["replica"] = 2
    assert validator(items, VERSIONS[0]).returncode != 0


def _kubectl_can():
    if not shutil.which("kubectl"):
        return False
    text = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"v1\.(\d+)", text)
    return bool(match) and int(match.group(1)) >= 27


@pytest.mark.skipif(not _kubectl_can(), reason="no kubectl with a kustomize that knows labels")
@pytest.mark.parametrize("folder", FOLDERS)
def test_kubectl_assembles_the_same(folder):
    done = subprocess.run(["kubectl", "kustomize", os.path.join(ROOT, "deploy/kubernetes", folder)], capture_output=True,
                          text=True, check=True)
    # The hash behind the name of a generated ConfigMap.
    theirs = list(yaml.safe_load_all(re.sub(r"(name: outbox-relay(?:-\w+)?)-[a-z0-9]{10}$", r"\1", done.stdout, flags=re.M)))

    def key(item):
        return item["kind"], item["metadata"]["name"]
    assert sorted(theirs, key=key) == sorted(objects(folder), key=key)


@pytest.mark.parametrize("folder", FOLDERS)
def test_containers_are_locked_down(folder):
    found = 0
    for item in objects(folder):
        for container in kustomize.containers(item):
            found += 1
            pod, own = item["spec"]["template"]["spec"], container["securityContext"]
            assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] >= 1000
            assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
            assert pod["automountServiceAccountToken"] is False
            assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
            assert own["capabilities"]["drop"] == ["ALL"]
            # Memory is bounded; a CPU limit would throttle a drain, and a throttled owner looks frozen to its lease.
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
            assert set(container["resources"]["limits"]) == {"memory"}
            assert re.search(r":\d+\.\d+\.\d+$", container["image"]), "an image has a version, never latest"
    assert found


NO_MESH = {"labels": {"sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none"}, "annotations": {"linkerd.io/inject": "disabled"}}


def selected_by(item):
    """The labels of its pods that selectors have: those that say what they are."""
    labels = item["spec"]["template"]["metadata"]["labels"]
    return {name: value for name, value in labels.items() if name not in NO_MESH["labels"]}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_pod_is_in_a_service_mesh(folder):
    """A sidecar would keep the job from its end, and needs ports that the network policy does not have."""
    pods = [item["spec"]["template"]["metadata"] for item in objects(folder) if kustomize.containers(item)]
    assert pods
    for pod in pods:
        for kind, wanted in NO_MESH.items():
            assert wanted.items() <= pod.get(kind, {}).items(), pod


OPENSHIFT_OVERLAY = "resources: [{folders}/{base}]\ncomponents: [{folders}/components/openshift]\n"


@pytest.mark.parametrize("base", FOLDERS)
def test_openshift_chooses_the_user(base, tmp_path):
    """restricted-v2 admits no pod that names a user or a group outside of its project's range."""
    (tmp_path / "kustomization.yaml").write_text(OPENSHIFT_OVERLAY.format(folders=os.path.join(ROOT, "deploy/kubernetes"), base=base))
    items = kustomize.build(tmp_path)
    pods = [item["spec"]["template"]["spec"] for item in items if item["kind"] in ("Deployment", "Job")]
    assert pods
    for pod in pods:
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        for container in pod.get("initContainers", []) + pod["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert not {"runAsUser", "runAsGroup"} & set(container["securityContext"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_secret_is_committed_and_each_is_mounted(folder):
    items = objects(folder)
    assert not of_kind(items, "Secret")
    for item in items:
        for container in kustomize.containers(item):
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            for variable in container.get("env", []):
                if variable["name"].endswith("_FILE"):
                    assert os.path.dirname(variable["value"]) in mounts


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_relay_knows_every_key(folder):
    items, seen = objects(folder), 0
    for item in of_kind(items, "ConfigMap"):
        assert not config_keys.unknown_keys(item["data"]["outbox-relay.ini"])
        seen += 1
    for item in items:
        for container in kustomize.containers(item):
            assert not config_keys.unknown_variables(variable["name"] for variable in container.get("env", []))
    assert seen


@pytest.mark.parametrize("folder", ["base", "overlays/split-stages"])
def test_alerts_name_the_namespace(folder):
    deployments = of_kind(objects(folder), "Deployment")
    assert deployments
    for deployment in deployments:
        env = {variable["name"]: variable for variable in kustomize.containers(deployment)[0]["env"]}
        assert env["OUTBOX_RELAY_ALERT_DEPLOYMENT"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.namespace"


@pytest.mark.parametrize("folder", ["base", "overlays/split-stages"])
def test_a_deployment_survives_nodes_and_rollouts(folder):
    items = objects(folder)
    for deployment in of_kind(items, "Deployment"):
        spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
        assert spec["replicas"] >= 2
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert {c["topologyKey"] for c in pod["topologySpreadConstraints"]} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        labels = selected_by(deployment)
        selectors = [spec["selector"]["matchLabels"]]
        selectors += [c["labelSelector"]["matchLabels"] for c in pod["topologySpreadConstraints"]]
        assert all(selector == labels for selector in selectors)
        budgets = [b for b in of_kind(items, "PodDisruptionBudget") if b["spec"]["selector"]["matchLabels"] == labels]
        policies = [p for p in of_kind(items, "NetworkPolicy") if p["spec"]["podSelector"]["matchLabels"] == labels]
        assert len(budgets) == 1 and len(policies) == 1
        accounts = [a["metadata"]["name"] for a in of_kind(items, "ServiceAccount")]
        assert pod["serviceAccountName"] in accounts


def test_the_job_reaches_its_servers_where_all_is_denied():
    items = objects("migrate")
    labels = selected_by(of_kind(items, "Job")[0])
    policy, = [p for p in of_kind(items, "NetworkPolicy") if p["spec"]["podSelector"]["matchLabels"] == labels]
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"] and ports == {53, 5353, 5432, 8123, 8443}


def test_a_command_has_logins_and_memory_of_its_own_and_reaches_the_servers():
    """In the daemon's container it would have neither; docs/installation.md sends what needs them here."""
    items = objects("command")
    job, = of_kind(items, "Job")
    policy, = of_kind(items, "NetworkPolicy")
    base, = of_kind(objects("base"), "NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"] == selected_by(job)
    assert policy["spec"]["egress"] == base["spec"]["egress"] and "ingress" not in policy["spec"]
    assert job["spec"]["backoffLimit"] == 0 and job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    volumes = {volume["name"]: volume for volume in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["secrets"]["secret"]["secretName"] == "outbox-relay-command"


def test_the_command_works_on_what_the_daemon_does():
    """Its sample of a configuration differs from the daemon's in the logins, and has nothing of a daemon."""
    def sections(folder):
        parser = configparser.ConfigParser(delimiters=("=",), comment_prefixes=(";",), interpolation=None)
        parser.read_string(of_kind(objects(folder), "ConfigMap")[0]["data"]["outbox-relay.ini"])
        return {name: dict(parser[name]) for name in parser.sections()}
    ours, daemon = sections("command"), sections("base")
    for section in (ours, daemon):
        del section["clickhouse"]["user"]
    assert ours == {name: daemon[name] for name in ("kafka", "publish", "insert", "clickhouse")}


def test_the_usual_ports_of_servers_are_open():
    """Names, also OpenShift's; PostgreSQL; Kafka, also Amazon MSK's; ClickHouse; webhooks."""
    for policy in of_kind(objects("base"), "NetworkPolicy"):
        ports = {(port["protocol"], port["port"]) for rule in policy["spec"]["egress"] for port in rule["ports"]}
        assert ports == {("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353), ("TCP", 5432), ("TCP", 9092), ("TCP", 9093), ("TCP", 9094),
                         ("TCP", 9096), ("TCP", 8123), ("TCP", 8443), ("TCP", 443)}


def _seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def test_grace_is_longer_than_the_drain():
    items = objects("base")
    text = of_kind(items, "ConfigMap")[0]["data"]["outbox-relay.ini"]
    drain = _seconds(re.search(r"^drain_timeout = (\S+)", text, re.M).group(1))
    assert of_kind(items, "Deployment")[0]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain + 5


def test_probes_meet_the_http_port():
    items = objects("base")
    text = of_kind(items, "ConfigMap")[0]["data"]["outbox-relay.ini"]
    assert re.search(r"^listen = :8000$", text, re.M)
    container = of_kind(items, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
    assert container["ports"] == [{"name": "http", "containerPort": 8000}]
    paths = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: get["path"] for name, get in paths.items()} == {
        "startupProbe": "/live", "livenessProbe": "/live", "readinessProbe": "/ready"}
    assert {get["port"] for get in paths.values()} == {"http"}
    ingress = of_kind(items, "NetworkPolicy")[0]["spec"]["ingress"][0]["ports"]
    assert ingress == [{"protocol": "TCP", "port": 8000}]


def test_the_overlay_runs_each_stage_once():
    deployments = of_kind(objects("overlays/split-stages"), "Deployment")
    switched_off = {}
    for deployment in deployments:
        env = kustomize.containers(deployment)[0]["env"]
        switched_off[deployment["metadata"]["name"]] = [v["name"] for v in env if v.get("value") == "false"]
    assert switched_off == {"outbox-relay-publish": ["OUTBOX_RELAY_INSERT_ENABLED"],
                            "outbox-relay-insert": ["OUTBOX_RELAY_PUBLISH_ENABLED"]}
