//! `deploy/`: what is offered there is what its readers accept, and speaks of what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use childminder::internals::FAMILIES;
use childminder::internals::MetricKind;
use serde_json::Value;

use crate::peers::tool;
use crate::support::{Place, skip};

/// The directory; whoever runs the test alone, elsewhere, may not be able to read it.
fn deploy() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    if fs::read_dir(&directory).is_err() {
        skip("the files in deploy/", "they cannot be read by this user");
        return None;
    }
    Some(directory)
}

fn yaml(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("the file");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn prometheus_accepts_its_configuration_and_rules() {
    let (Some(deploy), Some(promtool)) = (deploy(), tool("promtool")) else { return };
    let place = Place::new();
    for (directory, words) in [
        ("prometheus", ["check", "config", "prometheus.yml"]),
        ("prometheus/rules", ["check", "rules", "childminder.yml"]),
        ("prometheus/rules", ["test", "rules", "childminder.test.yml"]),
    ] {
        let mut command = place.command(&promtool);
        let output = command.args(words).current_dir(deploy.join(directory)).output();
        let output = output.expect("promtool starts");
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}

/// The names of series in a text that begin with our name.
fn named(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let words = text.split(|c| !is_name(c));
    words.filter(|word| word.starts_with("childminder_")).collect()
}

/// The names of all metrics, and of attributes as Prometheus has them.
fn names_of_the_catalogue() -> BTreeSet<String> {
    let mut all: BTreeSet<String> = BTreeSet::new();
    for family in FAMILIES {
        all.insert(family.name.to_owned());
        if family.kind == MetricKind::Histogram {
            all.extend(["bucket", "sum", "count"].map(|end| format!("{}_{end}", family.name)));
        }
        // Prometheus makes labels of the attributes of OTLP.
        let attributes = family.otlp.into_iter().flat_map(|otlp| otlp.attributes);
        all.extend(attributes.map(|name| name.replace('.', "_")));
    }
    all
}

#[test]
fn every_metric_that_dashboards_speak_of_exists() {
    let Some(deploy) = deploy() else { return };
    let all = names_of_the_catalogue();
    let rules = fs::read_to_string(deploy.join("prometheus/rules/childminder.yml"));
    let rules = rules.expect("the rules");
    for name in ["canary", "fleet", "jobs"] {
        let path = deploy.join(format!("../dashboards/{name}.json"));
        let text = fs::read_to_string(path).expect("a dashboard");
        let dashboard: Value = serde_json::from_str(&text).expect("JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        assert!(panels.len() > 10, "{name}");
        for target in panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"))
        {
            let expression = target["expr"].as_str().expect("an expression");
            // In Loki attributes of log records are labels.
            let is_log = target["datasource"]["type"] == "loki";
            for name in named(expression).into_iter().filter(|_| !is_log) {
                assert!(all.contains(name), "{name} in {expression}");
            }
            let is_name = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
            for name in
                expression.split(|c| !is_name(c)).filter(|word| word.contains(":childminder_"))
            {
                assert!(rules.contains(&format!("record: {name}\n")), "{name} in {expression}");
            }
        }
    }
}

/// Each alert has a section of the runbooks, and a test in which it fires and one in which it does not.
#[test]
fn every_alert_has_a_runbook_and_is_seen_to_fire_and_to_resolve() {
    let Some(deploy) = deploy() else { return };
    let runbooks = fs::read_to_string(deploy.join("../docs/runbooks.md")).expect("the runbooks");
    let rules = yaml(&deploy.join("prometheus/rules/childminder.yml"));
    let tests = yaml(&deploy.join("prometheus/rules/childminder.test.yml"));
    let groups = tests["tests"].as_array().expect("tests").iter();
    // For each group of tests: does this alert fire, and is it gone at the last time that is looked at?
    let seen = |alert: &str| {
        groups.clone().any(|group| {
            let cases = group["alert_rule_test"].as_array().into_iter().flatten();
            let fires: Vec<bool> = cases
                .filter(|case| case["alertname"] == alert)
                .map(|case| !case["exp_alerts"].as_array().expect("alerts").is_empty())
                .collect();
            fires.contains(&true) && fires.last() == Some(&false)
        })
    };
    let groups_of_rules = rules["groups"].as_array().expect("groups").iter();
    let rules = groups_of_rules.flat_map(|group| group["rules"].as_array().expect("rules"));
    for rule in rules {
        let Some(alert) = rule["alert"].as_str() else { continue };
        assert!(runbooks.contains(&format!("\n## {alert}\n")), "{alert} has no runbook");
        let runbook = rule["annotations"]["runbook"].as_str().expect("a runbook");
        assert_eq!(runbook, format!("docs/runbooks.md#{}", alert.to_lowercase()));
        assert!(seen(alert), "{alert} is not seen to fire and to resolve");
    }
}

#[test]
fn every_metric_that_rules_speak_of_exists() {
    let Some(deploy) = deploy() else { return };
    let all = names_of_the_catalogue();
    let rules = yaml(&deploy.join("prometheus/rules/childminder.yml"));
    let groups = rules["groups"].as_array().expect("groups").iter();
    let rules: Vec<&Value> =
        groups.flat_map(|group| group["rules"].as_array().expect("rules")).collect();
    let recorded: BTreeSet<&str> =
        rules.iter().filter_map(|rule| rule["record"].as_str()).collect();
    assert!(rules.len() >= 9 && recorded.len() >= 3, "{recorded:?}");
    for rule in rules {
        let expression = rule["expr"].as_str().expect("an expression");
        for name in named(expression) {
            assert!(all.contains(name) || recorded.contains(name), "{name} in {expression}");
        }
        // What is written job_name:childminder_x:rate5m must be recorded.
        let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)));
        for name in words.filter(|word| word.contains(":childminder_")) {
            assert!(recorded.contains(name), "{name} in {expression}");
        }
    }
}

/// What can be said of the configurations without a Collector.
#[test]
fn the_pipelines_of_the_collectors_are_made_of_what_is_defined() {
    let Some(deploy) = deploy() else { return };
    let directory = deploy.join("otel-collector");
    for (file, wanted) in [
        ("config.yaml", &["logs", "metrics", "metrics/short", "traces"][..]),
        ("clickhouse.yaml", &["logs", "traces"]),
    ] {
        let config = yaml(&directory.join(file));
        assert_eq!(signals(&config), wanted.iter().copied().collect(), "{file}");
    }
    // Metrics do not depend on ClickHouse, and no name is a deprecated one.
    let config = yaml(&directory.join("config.yaml"));
    let exporters = config["exporters"].as_object().expect("a table");
    for (name, exporter) in exporters {
        let kind = name.split('/').next().unwrap_or_default();
        assert!(!["clickhouse", "otlp", "otlphttp"].contains(&kind), "{name}");
        assert!(exporter.get("resource_to_telemetry_conversion").is_none(), "{name}");
    }
    let protocols = &config["receivers"]["otlp"]["protocols"];
    assert!(protocols.get("grpc").is_some() && protocols.get("http").is_some());
}

/// The signals that have a pipeline; all that these name is defined, and all that is defined is used.
fn signals(config: &Value) -> BTreeSet<&str> {
    let defined = |kind: &str, name: &Value| {
        let name = name.as_str().expect("a name");
        assert!(config[kind].get(name).is_some(), "{kind}: {name} is not defined");
        format!("{kind}/{name}")
    };
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let mut used = BTreeSet::new();
    let pipelines = config["service"]["pipelines"].as_object().expect("pipelines");
    for pipeline in pipelines.values() {
        for kind in ["receivers", "processors", "exporters"] {
            used.extend(list(&pipeline[kind]).iter().map(|name| defined(kind, name)));
        }
        assert_eq!(list(&pipeline["processors"])[0], "memory_limiter");
    }
    let extensions = list(&config["service"]["extensions"]);
    used.extend(extensions.iter().map(|name| defined("extensions", name)));
    for kind in ["receivers", "processors", "exporters", "extensions"] {
        for name in config[kind].as_object().expect("a table").keys() {
            assert!(used.contains(&format!("{kind}/{name}")), "{kind}: {name} is not used");
        }
    }
    pipelines.keys().map(String::as_str).collect()
}
