//! The committed `openapi.json` is the one that the code makes; the console's types are generated from it.

use std::collections::BTreeSet;

use serde_json::Value;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
const REGENERATE: &str = "UPDATE_OPENAPI=1 cargo nextest run -p control-plane --test openapi";

fn document() -> String {
    let mut text = control_plane::api::router::openapi().to_pretty_json().expect("plain data");
    text.push('\n');
    text
}

fn operations(document: &Value) -> Vec<(String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let methods = |item: &Value| item.as_object().expect("operations").clone();
    paths
        .iter()
        .flat_map(|(path, item)| methods(item).into_iter().map(move |(method, one)| (format!("{method} {path}"), one)))
        .collect()
}

#[test]
fn the_committed_document_is_the_one_the_code_makes() {
    let made = document();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(COMMITTED, &made).expect("openapi.json can be written");
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(committed == made, "control-plane/openapi.json is not what the code makes; run: {REGENERATE}");
}

#[test]
fn every_operation_has_its_own_id_a_tag_and_typed_answers() {
    let document: Value = serde_json::from_str(&document()).unwrap();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap_or_default();
        assert!(!id.is_empty() && ids.insert(id.to_owned()), "{name} needs an operation id of its own: `{id}`");
        assert_eq!(operation["tags"].as_array().map_or(0, Vec::len), 1, "{name} needs one tag");
        assert!(operation["summary"].is_string(), "{name} needs a summary");
        let responses = operation["responses"].as_object().expect("responses");
        for (status, response) in responses {
            let typed = response["content"].as_object().is_some_and(|content| !content.is_empty());
            assert!(typed || status == "204", "{name} answers {status} with an unknown body");
        }
        assert!(responses.contains_key("default"), "{name} does not say how it fails");
        assert!(responses.keys().any(|status| status.starts_with('2')), "{name} does not say how it succeeds");
    }
    assert!(ids.len() > 30, "the whole surface is in the document: {ids:?}");
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(target)) = members.get("$ref") {
                    found.insert(target);
                }
                members.values().for_each(|member| walk(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document: Value = serde_json::from_str(&document()).unwrap();
    let mut references = BTreeSet::new();
    walk(&document, &mut references);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}
