//! The benchmark measures what it says. What it measures is nothing that a test could judge.

use std::{fs, process::Command};

use serde_json::Value;
use tests::process;

#[test]
fn the_benchmark_measures_a_node_beside_the_floor() {
    let folder = tempfile::tempdir().unwrap();
    let (json, markdown) = (folder.path().join("results.json"), folder.path().join("results.md"));
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["--only", "saturation,idle", "--subjects", "floor,lockgate", "--seconds", "1", "--repetitions", "1"])
        .args(["--endpoints", "20", "--keys", "50"])
        .arg("--lockgate")
        .arg(process::program())
        .arg("--json")
        .arg(&json)
        .arg("--markdown")
        .arg(&markdown)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let results: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    let median = |metric: &str, subject: &str| {
        let rows = results["figures"].as_array().unwrap();
        let row = rows.iter().find(|row| row["metric"] == metric).unwrap_or_else(|| panic!("{metric}: {results:#}"));
        let found = row["subjects"].as_array().unwrap().iter().find(|found| found["subject"] == subject);
        found.unwrap_or_else(|| panic!("{metric} of {subject}: {row:#}"))["median"].as_f64().unwrap()
    };
    for (metric, subject) in [
        ("requests per second", "direct"),
        ("requests per second", "floor"),
        ("requests per second", "lockgate"),
        ("CPU per request", "floor"),
        ("CPU per request", "lockgate"),
        ("memory with 10 endpoints", "lockgate"),
        ("start to first answer", "lockgate"),
        ("restart to first answer", "lockgate"),
    ] {
        assert!(median(metric, subject) > 0.0, "{metric} of {subject}: {results:#}");
    }
    let table = fs::read_to_string(markdown).unwrap();
    assert!(table.contains("| saturation | CPU per request | us |"), "{table}");
    // What a reader must know of the machine stands below.
    assert!(table.contains("cores") && table.contains("load before"), "{table}");
}

#[test]
fn an_option_that_is_not_there_is_refused_before_anything_starts() {
    let output = Command::new(env!("CARGO_BIN_EXE_load")).args(["--only", "strem"]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("there are saturation, stream"), "{said}");
}
