//! The matrix of roles and operations, made from the OpenAPI document: every operation, every role, over a real socket.

use control_plane::api::access::{Rule, rule};
use control_plane::model::role::Role;
use http::Method;

use crate::harness::{Caller, On, Plane};

/// Method and pattern of every operation.
fn operations() -> Vec<(Method, String)> {
    let document = serde_json::to_value(control_plane::api::router::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let operations: Vec<_> = paths
        .iter()
        .flat_map(|(pattern, item)| {
            item.as_object().unwrap().keys().filter_map(move |method| {
                let known = ["get", "post", "put", "delete", "patch"].contains(&method.as_str());
                known.then(|| (method.to_uppercase().parse().unwrap(), pattern.clone()))
            })
        })
        .collect();
    assert!(operations.len() >= 14, "the document lost operations: {operations:?}");
    operations
}

async fn call(caller: &Caller, method: &Method, pattern: &str) -> u16 {
    // A path that exists for nobody: whoever may ask is told so, nobody changes anything.
    let path = pattern
        .split('/')
        .map(|segment| if segment.starts_with('{') { "no-such-thing" } else { segment })
        .collect::<Vec<_>>()
        .join("/");
    let body = (!method.is_safe()).then(|| "{\"noSuchField\": 1}".to_owned());
    caller.call(method.as_str(), &path, body).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_may_exactly_what_the_table_says() {
    let plane = Plane::start(On::Sqlite).await;
    let mut wrong = Vec::new();
    for role in Role::ALL {
        let caller = plane.member(role.name()).await;
        for (method, pattern) in operations() {
            let status = call(&caller, &method, &pattern).await;
            let may = match rule(&method, &pattern).expect("a rule, see the test beside the table") {
                Rule::Open | Rule::SignedIn => true,
                Rule::Needs(permission) => role.may(permission),
            };
            // Of an operation on somebody's row, the handler decides; what it finds missing is 403 as well.
            let handler_decides = rule(&method, &pattern) == Some(Rule::SignedIn) && pattern.contains('{');
            let right = match status {
                401 => rule(&method, &pattern) == Some(Rule::Open),
                403 => !may || handler_decides,
                500.. => false,
                _ => may,
            };
            if !right {
                wrong.push(format!("{role}: {method} {pattern} answered {status}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_may_only_sign_in() {
    let plane = Plane::start(On::Sqlite).await;
    for (method, pattern) in operations() {
        let status = call(&plane.stranger(), &method, &pattern).await;
        let open = rule(&method, &pattern) == Some(Rule::Open);
        assert_eq!(status == 401, !open, "{method} {pattern} answered {status}");
    }
}
