"""`compose.yaml` and what it mounts: every name in it is one that exists, as far as that can be known without Docker.

Where `promtool` is on the PATH (Debian has it in the package `prometheus`), it reads the rules and every expression.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflows_otel.instrument_list import instruments
from workflows.instrumentation import attributes as at

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "observability"
DASHBOARD = json.loads((FOLDER / "grafana/dashboards/workflows.json").read_text())
ALERTS = yaml.safe_load((FOLDER / "prometheus/alerts.yml").read_text())
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
COLLECTOR = yaml.safe_load((FOLDER / "collector.yaml").read_text())
OWN_LABELS = {"le", "job", "instance", "signal", "reason", "handler"}
# Every component that collector.yaml may name, of the distribution in compose.yaml.
COMPONENTS = {
    "receivers": {"otlp"},
    "processors": {"memory_limiter", "batch"},
    "exporters": {"otlp", "otlphttp", "prometheus", "debug"},
}


@pytest.fixture(scope="module")
def metrics() -> set[str]:
    """The names that Prometheus has for our metrics."""
    return {name for instrument in instruments() for name in instrument.prometheus_names()}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[tuple[str, str]]:
    """Every PromQL expression, and where it stands."""
    found = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    return found + [(rule["alert"], rule["expr"]) for rule in rules()]


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(("where", "expression"), expressions(), ids=lambda text: text[:40])
def test_dashboard_and_alerts_name_metrics_that_we_emit(where: str, expression: str, metrics: set[str]) -> None:
    named = set(re.findall(r"\b((?:workflow|gen_ai)_\w+)(?=[{\[])", expression))
    assert named, where
    assert named <= metrics


@pytest.mark.parametrize(("where", "expression"), expressions(), ids=lambda text: text[:40])
def test_dashboard_and_alerts_name_labels_that_we_write(where: str, expression: str) -> None:
    grouped = {name.strip() for names in re.findall(r"by \(([^)]*)\)", expression) for name in names.split(",")}
    matched = set(re.findall(r"(\w+)(?:=~|!=|=)\"", expression))
    assert grouped | matched <= labels() | OWN_LABELS, where


def labels() -> set[str]:
    """Every attribute of ours as a label."""
    others = ("METRIC_", "LOG_", "SPAN_EVENT_", "LINK_")
    named = {name: value for name, value in vars(at).items() if name.isupper() and not name.startswith(others)}
    return {value.replace(".", "_") for value in named.values()}


@pytest.mark.parametrize(
    "about",
    [
        at.METRIC_RUN_DURATION,
        at.METRIC_STEP_QUEUE,
        at.METRIC_RUN_QUEUE,
        at.METRIC_STEP_RETRIES,
        at.METRIC_LOOP_LAG,
        at.METRIC_TELEMETRY_DROPPED,
    ],
)
def test_there_is_a_panel_and_an_alert_for_what_matters(about: str) -> None:
    name = about.replace(".", "_")
    assert any(name in target["expr"] for panel in panels() for target in panel["targets"])
    assert any(name in rule["expr"] for rule in rules())


def test_alerts_say_what_is_wrong_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at_, across = panel["gridPos"], range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        cells = {(x, y) for x in across for y in range(at_["y"], at_["y"] + at_["h"])}
        assert max(across) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_every_data_source_of_the_dashboard_is_provisioned() -> None:
    provisioned = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/datasources.yaml").read_text())
    known = {source["uid"]: source["type"] for source in provisioned["datasources"]}
    used = {(target["datasource"]["uid"], target["datasource"]["type"]) for p in panels() for target in p["targets"]}
    assert used <= set(known.items())
    assert all(_is_served(source["url"]) for source in provisioned["datasources"])


def test_the_collectors_pipelines_are_made_of_components_that_exist() -> None:
    for kind, known in COMPONENTS.items():
        assert {name.partition("/")[0] for name in COLLECTOR[kind]} <= known
        used = {name for pipeline in COLLECTOR["service"]["pipelines"].values() for name in pipeline[kind]}
        assert used == set(COLLECTOR[kind])
    assert set(COLLECTOR["service"]["pipelines"]) == {"traces", "metrics", "logs"}


def test_phoenix_gets_traces_only() -> None:
    takers = [
        name
        for name, pipeline in COLLECTOR["service"]["pipelines"].items()
        if "otlphttp/phoenix" in pipeline["exporters"]
    ]
    assert takers == ["traces"]


def test_the_collector_sends_to_services_that_are_there() -> None:
    sent = [exporter["endpoint"] for name, exporter in COLLECTOR["exporters"].items() if "/" in name]
    assert sent
    assert all(map(_is_served, sent))


def test_prometheus_reads_where_the_collector_shows_metrics() -> None:
    config = yaml.safe_load((FOLDER / "prometheus/prometheus.yml").read_text())
    (targets,) = [
        targets for job in config["scrape_configs"] for one in job["static_configs"] for targets in one["targets"]
    ]
    host, _, port = targets.partition(":")
    assert host in COMPOSE["services"]
    assert COLLECTOR["exporters"]["prometheus"]["endpoint"].endswith(f":{port}")
    assert [(FOLDER / "prometheus" / name).exists() for name in config["rule_files"]] == [True]


def _is_served(endpoint: str) -> bool:
    """Whether a service of compose.yaml has that name; the ports are those of the programs' own manuals."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    ports = {"jaeger": {"4317", "16686"}, "phoenix": {"6006"}, "prometheus": {"9090"}}
    return host in COMPOSE["services"] and port in ports[host]


def test_compose_mounts_files_that_are_there() -> None:
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            there = (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
            assert there, f"{name}: {volume}"


def test_compose_pins_every_image_and_opens_ports_to_this_machine_only() -> None:
    for name, service in COMPOSE["services"].items():
        assert re.search(r":[\w.-]*\d+\.\d+", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name


def test_compose_starts_what_a_service_needs() -> None:
    needed = {other for service in COMPOSE["services"].values() for other in service.get("depends_on", ())}
    assert needed <= set(COMPOSE["services"])


promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="runs with promtool on the PATH: `apt install prometheus`"
)


def _promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@promtool
def test_promtool_takes_the_rules_and_the_configuration() -> None:
    _promtool("check", "config", str(FOLDER / "prometheus/prometheus.yml"))


@promtool
def test_promtool_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    def plain(expression: str) -> str:
        return expression.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$workflow", ".*")

    recorded = [{"record": f"panel:{n}", "expr": plain(expr)} for n, (_, expr) in enumerate(expressions())]
    rule_file = tmp_path / "panels.yml"
    rule_file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    assert f"{len(recorded)} rules found" in _promtool("check", "rules", str(rule_file))


def _series(name: str, values: str, **about: str) -> dict[str, str]:
    shown = ",".join(f'{key}="{value}"' for key, value in about.items())
    return {"series": f"{name}{{{shown}}}", "values": values}


RUNS = "gen_ai_invoke_workflow_duration_seconds_count"
FIRING: list[tuple[str, list[dict[str, str]]]] = [
    (
        "WorkflowRunsFail",
        [
            _series(RUNS, "0+10x20", gen_ai_workflow_name="Shop", workflow_run_outcome="completed"),
            _series(RUNS, "0+1x20", gen_ai_workflow_name="Shop", workflow_run_outcome="failed"),
        ],
    ),
    (
        "WorkflowEventsQueue",
        [
            _series("workflow_step_queue_duration_seconds_bucket", values, workflow_step_name="plan", le=le)
            for le, values in (("5.12", "0+0x20"), ("10.24", "0+10x20"), ("+Inf", "0+10x20"))
        ],
    ),
    (
        "WorkflowRunsQueue",
        [
            _series("workflow_run_queue_duration_seconds_bucket", values, gen_ai_workflow_name="Shop", le=le)
            for le, values in (("40.96", "0+0x20"), ("81.92", "0+10x20"), ("+Inf", "0+10x20"))
        ],
    ),
    (
        "WorkflowStepsRetry",
        [
            _series("workflow_step_retries_total", "0+5x20", workflow_step_name="plan", error_type="KeyError"),
            _series("workflow_step_duration_seconds_count", "0+10x20", workflow_step_name="plan"),
        ],
    ),
    (
        "WorkflowLoopLags",
        [
            _series("workflow_loop_lag_seconds_bucket", values, job="shop", le=le)
            for le, values in (("0.32", "0+0x20"), ("0.64", "0+10x20"), ("+Inf", "0+10x20"))
        ],
    ),
    (
        "WorkflowTelemetryIsLost",
        [_series("workflow_telemetry_dropped_total", "0+1x20", handler="otlp", reason="queue")],
    ),
    ("WorkflowTelemetryFails", [_series("workflow_telemetry_errors_total", "0+1x20", handler="opentelemetry")]),
]


def test_every_alert_is_tried() -> None:
    assert [name for name, _ in FIRING] == [rule["alert"] for rule in rules()]


@promtool
@pytest.mark.parametrize(("alert", "series"), FIRING, ids=lambda value: value if isinstance(value, str) else "")
def test_each_alert_fires_for_what_it_is_about_and_no_other(
    tmp_path: Path, alert: str, series: list[dict[str, str]]
) -> None:
    case = {
        "rule_files": [str(FOLDER / "prometheus/alerts.yml")],
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": _expected(alert)}],
    }
    test_file = tmp_path / "test.yml"
    test_file.write_text(yaml.safe_dump(case))
    _promtool("test", "rules", str(test_file))


def _expected(alert: str) -> Iterable[dict[str, Any]]:
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    return [{"expr": firing, "eval_time": "18m", "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}]}]
