"""Writes the schemas that Kubernetes would hold the chart's resources against, as kubeconform reads them.

usage: python schemas.py FOLDER
Those of its own kinds come with a package; those of Prometheus' operator and of KEDA are in the modules of their sources.
"""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import yaml

# The oldest that the chart takes, and the newest whose schemas are known.
KUBERNETES = ["v1.30.0", "v1.37.0"]
SOURCES = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": "example/prometheus-operator-crd/*.yaml",
    "github.com/kedacore/keda/v2@v2.18.0": "config/crd/bases/*.yaml",
}

# A lone `=` is text; this reader would take it for something that YAML 1.1 reserved.
yaml.SafeLoader.add_constructor("tag:yaml.org,2002:value", yaml.SafeLoader.construct_yaml_str)


def strict(schema):
    """The same schema, which refuses a field that it does not name: Kubernetes would drop it without a word."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(each) for name, each in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


def main(folder):
    shutil.rmtree(folder, ignore_errors=True)
    package = pathlib.Path(importlib.util.find_spec("kubernetes_validate").origin).parent
    for version in KUBERNETES:
        (folder / version).mkdir(parents=True)
        for file in (package / "kubernetes-json-schema" / f"{version}-local-strict").iterdir():
            # They refer to each other by the addresses of a server; here they are files of one folder.
            schema = json.loads(file.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
            schema.pop("$id", None)
            (folder / version / file.name).write_text(json.dumps(schema))
    for module, pattern in SOURCES.items():
        told = subprocess.run(["go", "mod", "download", "-json", module], check=True, capture_output=True, cwd=folder)
        for file in sorted(pathlib.Path(json.loads(told.stdout)["Dir"]).glob(pattern)):
            crd = yaml.safe_load(file.read_text())
            for version in crd["spec"]["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                # What every resource has; the definition leaves it to Kubernetes.
                schema["properties"]["metadata"] = {"type": "object"}
                name = f"{crd['spec']['names']['kind'].lower()}_{version['name']}.json"
                group = folder / crd["spec"]["group"]
                group.mkdir(exist_ok=True)
                (group / name).write_text(json.dumps(schema))


main(pathlib.Path(sys.argv[1]))
