# SPDX-License-Identifier: Apache-2.0
"""As much of kustomize as deploy/kubernetes uses, so that the manifests can be checked where there is no kubectl: resources,
components (patches), configMapGenerator (files, no hash), images (newTag), nameSuffix, labels with selectors, JSON 6902 patches. Anything else is an
error; where a kubectl is at hand test_kubernetes.py compares the two."""
import copy
import os

import yaml

KNOWN = {"apiVersion", "kind", "resources", "components", "configMapGenerator", "images", "nameSuffix", "labels", "patches"}
# Where a Kubernetes object names another one of these kinds.
REFERENCES = {"serviceAccountName": "ServiceAccount"}


def build(folder):
    """The objects of a kustomization, in no special order."""
    spec = _spec(folder, KNOWN)
    objects = []
    for name in spec.get("resources", []):
        child = os.path.normpath(os.path.join(folder, name))
        if os.path.isdir(child):
            objects += build(child)
        else:
            with open(child, encoding="utf-8") as file:
                objects += [item for item in yaml.safe_load_all(file) if item]
    for name in spec.get("components", []):
        for patch in _spec(os.path.join(folder, name), {"apiVersion", "kind", "patches"})["patches"]:
            _patch(objects, patch)
    for generator in spec.get("configMapGenerator", []):
        objects.append(_config_map(folder, generator))
    for patch in spec.get("patches", []):
        _patch(objects, patch)
    for image in spec.get("images", []):
        _tag(objects, image)
    for labels in spec.get("labels", []):
        for item in objects:
            _label(item, labels["pairs"])
    if "nameSuffix" in spec:
        _rename(objects, spec["nameSuffix"])
    return objects


def _spec(folder, known):
    path = os.path.join(folder, "kustomization.yaml")
    with open(path, encoding="utf-8") as file:
        spec = yaml.safe_load(file)
    unknown = set(spec) - known
    if unknown:
        raise ValueError(f"{path}: {unknown} is more than tests/deploy/kustomize.py knows")
    return spec


def _config_map(folder, generator):
    data = {}
    for name in generator["files"]:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            data[os.path.basename(name)] = file.read()
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}


def _patch(objects, patch):
    target = patch["target"]
    found = [item for item in objects if item["kind"] == target["kind"] and target.get("name") in (None, item["metadata"]["name"])]
    if not found and "name" in target:
        raise ValueError(f"a patch is for {target}, which is not there")
    for item in found:
        for step in yaml.safe_load(patch["patch"]):
            *way, last = step["path"].strip("/").replace("~1", "/").split("/")
            place = item
            for part in way:
                place = place[int(part)] if isinstance(place, list) else place[part]
            value = copy.deepcopy(step.get("value"))
            if step["op"] == "remove":
                del place[int(last) if isinstance(place, list) else last]
            elif isinstance(place, list) and last == "-" and step["op"] == "add":
                place.append(value)
            elif isinstance(place, dict) and (step["op"] == "add" or (step["op"] == "replace" and last in place)):
                place[last] = value
            else:
                raise ValueError(f"{step['op']} at {step['path']} is not possible")


def _pod(item):
    """The pod template of a workload, or None."""
    return item["spec"]["template"] if item["kind"] in ("Deployment", "Job") else None


def containers(item):
    pod = _pod(item)
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"] if pod else []


def _tag(objects, image):
    for item in objects:
        for container in containers(item):
            if container["image"] == image["name"]:
                container["image"] += ":" + image["newTag"]


def _label(item, pairs):
    item["metadata"].setdefault("labels", {}).update(pairs)
    spec = item.get("spec", {})
    if item["kind"] == "Service":
        spec["selector"].update(pairs)
    elif item["kind"] == "NetworkPolicy":
        spec["podSelector"]["matchLabels"].update(pairs)
    elif "selector" in spec:
        spec["selector"]["matchLabels"].update(pairs)
    pod = _pod(item)
    if pod:
        pod["metadata"]["labels"].update(pairs)
        for constraint in pod["spec"].get("topologySpreadConstraints", []):
            constraint["labelSelector"]["matchLabels"].update(pairs)


def _rename(objects, suffix):
    ours = {(item["kind"], item["metadata"]["name"]) for item in objects}
    for item in objects:
        item["metadata"]["name"] += suffix
        pod = _pod(item)
        if not pod:
            continue
        for key, kind in REFERENCES.items():
            if (kind, pod["spec"].get(key)) in ours:
                pod["spec"][key] += suffix
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) in ours:
                volume["configMap"]["name"] += suffix
