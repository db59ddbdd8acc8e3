"""Holds what is in deploy/ against those who would read it: Prometheus' rules and Grafana's board against promtool and our
own metrics, the chart against Helm, Kubernetes' schemas and our own settings.

usage: python check.py TOOLS   (the folder that `make lint` installs)
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/adflux"
TOOLS = pathlib.Path(sys.argv[1]).resolve()
KUBERNETES = sorted(folder.name[1:] for folder in (TOOLS / "schemas").glob("v1.*"))
faults = []


def run(tool, *arguments, given=None):
    return subprocess.run(
        [TOOLS / "bin" / tool, *map(str, arguments)], input=given, capture_output=True, text=True, cwd=ROOT
    )


def must(what, done):
    if done.returncode:
        faults.append(f"{what}:\n{done.stdout}{done.stderr}")
    return done.stdout


def metrics():
    rules = ROOT / "deploy/prometheus/rules.yml"
    must("promtool check rules", run("promtool", "check", "rules", "--lint-fatal", rules))
    must("promtool test rules", run("promtool", "test", "rules", ROOT / "deploy/prometheus/rules.test.yml"))

    board = json.loads((ROOT / "deploy/grafana/adflux.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    as_rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(asked)
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump({"groups": [{"name": "board", "rules": as_rules}]}, file)
        file.flush()
        must("deploy/grafana/adflux.json", run("promtool", "check", "rules", file.name))

    known = set(re.findall(r'"(adflux_[a-z_]+)"', (ROOT / "src/metrics.rs").read_text()))
    for text, where in [(rules.read_text(), "deploy/prometheus/rules.yml"), (" ".join(asked), "deploy/grafana/adflux.json")]:
        for name in sorted(set(re.findall(r"adflux_[a-z_]+", text))):
            if re.sub("_(bucket|sum|count)$", "", name) not in known and name not in known:
                faults.append(f"{where}: {name} is no metric of src/metrics.rs")


def chart():
    settings = {*re.findall("`([A-Z_]+)`", (ROOT / "docs/settings.md").read_text()), "RUST_LOG"}
    for values in sorted((CHART / "ci").glob("*.yaml")):
        for version in KUBERNETES:
            what = f"{values.name}, Kubernetes {version}"
            must(f"helm lint, {what}", run("helm", "lint", "--strict", "--kube-version", version, CHART, "-f", values))
            rendered = must(f"helm template, {what}", run("helm", "template", "it", CHART, "--kube-version", version, "-f", values))
            must(
                f"kubeconform, {what}",
                run(
                    "kubeconform", "-strict", "-summary", "-kubernetes-version", version,
                    "-schema-location", f"{TOOLS}/schemas/{{{{.NormalizedKubernetesVersion}}}}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
                    "-schema-location", f"{TOOLS}/schemas/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json",
                    given=rendered,
                ),
            )
            for resource in yaml.safe_load_all(rendered):
                spec = (resource or {}).get("spec", {})
                pod = spec.get("jobTemplate", {}).get("spec", spec).get("template", {}).get("spec", {})
                for container in pod.get("containers", []):
                    for name in (variable["name"] for variable in container["env"]):
                        if settings.isdisjoint({name, name.removesuffix("_FILE")}):
                            faults.append(f"the chart sets {name}, which docs/settings.md does not know")

    # What lacks something, or is misspelt, is refused in words.
    least = ["--kube-version", KUBERNETES[0], "-f", CHART / "ci/least.yaml"]
    for flags, words in [
        (["--set", "kafka.brokers="], "kafka.brokers: the brokers"),
        (["--set", "database.owner.name="], "database.owner.name: the secret"),
        (["--set", "kafka.brokers=kafka"], "kafka/brokers"),
        (["--set", "procesor.replicas=2"], "procesor"),
        (["--set", "ingress.enabled=true"], "ingress.host: the name"),
        (["--set", "kafka.tls.secret=a,kafka.tls.configMap=b"], "kafka.tls: a secret or a configMap"),
    ]:
        done = run("helm", "template", "it", CHART, *least, *flags)
        if done.returncode == 0 or words not in done.stderr:
            faults.append(f"helm template {' '.join(flags)} does not say '{words}': {done.stderr or 'it is rendered'}")


metrics()
chart()
for fault in faults:
    print(fault, file=sys.stderr)
sys.exit(1 if faults else 0)
