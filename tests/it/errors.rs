//! Every error that anyone can be told has a line in `docs/ERRORS.md`.

use std::{fs, path::Path};

fn repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_refusal_of_the_data_plane_is_explained() {
    let page = repository("docs/ERRORS.md");
    for refusal in data_plane::error::Refusal::ALL {
        let row = page.lines().find(|line| line.contains(&format!("`{}`", refusal.label())));
        let row = row.unwrap_or_else(|| panic!("docs/ERRORS.md must explain `{}`", refusal.label()));
        assert!(row.contains(refusal.status().as_str()), "with its status, {}: {row}", refusal.status());
    }
}

#[test]
fn every_problem_of_the_rest_api_is_explained() {
    let page = repository("docs/ERRORS.md");
    let source = repository("control-plane/src/api/problem.rs");
    // The one file that makes problems: `Draft::new(StatusCode::X, "code", ...)`, and pairs `=> ("code", "title")`.
    let source: String = source.split_whitespace().collect();
    let quoted = |text: &str| text.strip_prefix('"').and_then(|text| text.split('"').next()).map(str::to_owned);
    let drafts = source.split("Draft::new(StatusCode::").skip(1).filter_map(|text| quoted(text.split_once(',')?.1));
    let pairs = source.split("=>(").skip(1).filter_map(quoted);
    let codes: Vec<String> = drafts.chain(pairs).collect();
    for known in
        ["invalid", "not_supported", "malformed", "unauthenticated", "name_taken", "revision_mismatch", "unavailable"]
    {
        assert!(codes.iter().any(|code| code == known), "{known} must be found in problem.rs: {codes:?}");
    }
    for code in codes {
        assert!(page.contains(&format!("`{code}`")), "docs/ERRORS.md must explain `{code}`");
    }
}
