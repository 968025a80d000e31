//! The house rules that a compiler does not know: who may import whom, and how files are kept.
//! `docs/ARCHITECTURE.md` says why.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// In these files (a path below the repository, the whole folder if it ends in `/`) ...
struct Rule {
    files: &'static [&'static str],
    /// ... except these ...
    except: &'static [&'static str],
    /// ... none of these names may be used.
    forbidden: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule { files: &["control-plane/src/"], except: &[], forbidden: &["data_plane"] },
    Rule { files: &["data-plane/src/"], except: &[], forbidden: &["control_plane"] },
    Rule { files: &["proto/src/"], except: &[], forbidden: &["control_plane", "data_plane"] },
    // The control plane: model <- store <- snapshot <- publisher <- stream, and api beside them.
    Rule {
        files: &["control-plane/src/model/", "control-plane/src/model.rs"],
        except: &[],
        forbidden: &[
            "crate::store",
            "crate::api",
            "crate::snapshot",
            "crate::publisher",
            "crate::stream",
            "crate::intake",
            "crate::server",
            "tokio",
            "sqlx",
            "axum",
        ],
    },
    Rule {
        files: &["control-plane/src/store/", "control-plane/src/store.rs"],
        except: &[],
        forbidden: &[
            "crate::api",
            "crate::snapshot",
            "crate::publisher",
            "crate::stream",
            "crate::intake",
            "crate::server",
        ],
    },
    Rule {
        files: &["control-plane/src/snapshot.rs", "control-plane/src/snapshot/"],
        except: &[],
        forbidden: &["crate::api", "crate::publisher", "crate::stream", "crate::intake", "crate::server", "tokio"],
    },
    Rule {
        files: &["control-plane/src/publisher.rs", "control-plane/src/publisher/"],
        except: &[],
        forbidden: &["crate::api", "crate::stream", "crate::intake", "crate::server"],
    },
    Rule {
        files: &["control-plane/src/api/", "control-plane/src/api.rs"],
        except: &[],
        forbidden: &["crate::snapshot", "crate::stream", "crate::intake"],
    },
    Rule {
        files: &["control-plane/src/"],
        except: &["control-plane/src/store/", "control-plane/src/store.rs"],
        forbidden: &["sqlx"],
    },
    Rule {
        files: &["control-plane/src/"],
        except: &[
            "control-plane/src/api/",
            "control-plane/src/api.rs",
            // The composition root serves what `api` made, and the console's files beside it.
            "control-plane/src/server.rs",
            "control-plane/src/web.rs",
        ],
        forbidden: &["axum"],
    },
    Rule {
        files: &["control-plane/src/"],
        except: &[
            // Mounts the three services on their listener.
            "control-plane/src/link.rs",
            "control-plane/src/stream.rs",
            "control-plane/src/stream/",
            "control-plane/src/intake.rs",
            "control-plane/src/intake/",
            "control-plane/src/lease.rs",
            "control-plane/src/lease/",
            "control-plane/src/snapshot.rs",
            "control-plane/src/snapshot/",
        ],
        forbidden: &["proto::config", "proto::usage", "proto::quota"],
    },
    // The data plane: dialect knows nothing, runtime knows dialect, upstream knows runtime, pipeline knows all.
    Rule {
        files: &["data-plane/src/dialect/", "data-plane/src/dialect.rs"],
        except: &[],
        forbidden: &[
            "crate::runtime",
            "crate::upstream",
            "crate::pipeline",
            "crate::gateway",
            "crate::listener",
            "crate::follow",
            "crate::report",
            "crate::config",
            "tokio",
            "hyper",
            "proto",
        ],
    },
    Rule {
        files: &["data-plane/src/runtime/", "data-plane/src/runtime.rs"],
        except: &[],
        forbidden: &[
            "crate::upstream",
            "crate::pipeline",
            "crate::gateway",
            "crate::listener",
            "crate::follow",
            "crate::report",
            "tokio",
            "hyper",
        ],
    },
    Rule {
        files: &["data-plane/src/upstream/", "data-plane/src/upstream.rs"],
        except: &[],
        forbidden: &["crate::pipeline", "crate::gateway", "crate::listener", "crate::follow", "crate::report"],
    },
    Rule {
        files: &["data-plane/src/pipeline/", "data-plane/src/pipeline.rs"],
        except: &[],
        forbidden: &["crate::gateway", "crate::listener", "crate::follow"],
    },
    Rule {
        files: &["data-plane/src/"],
        except: &[
            "data-plane/src/listener.rs",
            "data-plane/src/listener/",
            "data-plane/src/upstream.rs",
            "data-plane/src/upstream/",
        ],
        forbidden: &["hyper::server", "hyper::client", "hyper_util::server", "hyper_util::client"],
    },
];

/// Crates of ours whose sources the rules are about.
const SOURCES: &[&str] = &[
    "proto/src",
    "control-plane/src",
    "data-plane/src",
    "lockgate/src",
    "tests/src",
    "tests/it",
    "tests/sdk",
    "tests/load",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// Every Rust file, by its path below the repository.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = SOURCES.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("the repository is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("it was found there").display().to_string();
                found.insert(name, fs::read_to_string(&path).expect("a source file is text"));
            }
        }
    }
    assert!(found.len() > 30, "the sources must be where this test looks: {:?}", found.keys());
    found
}

/// The code by lines, without comments and without what is there for tests; a `use` of several names is one line for
/// each of them.
fn code(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut for_tests = false;
    for (number, line) in text.lines().enumerate() {
        if std::mem::take(&mut for_tests) {
            // One item, or the module at the foot with everything in it.
            if line.starts_with("mod ") && line.ends_with('{') {
                break;
            }
            continue;
        }
        if line.trim() == "#[cfg(test)]" {
            for_tests = true;
            continue;
        }
        let line = line.split("//").next().unwrap_or_default();
        let (start, mut statement) = open.take().unwrap_or((number + 1, String::new()));
        statement.push_str(line);
        let import = statement.trim_start().trim_start_matches("pub ").starts_with("use ");
        if import && !statement.contains(';') {
            open = Some((start, statement));
        } else if import && statement.contains('{') {
            let path = statement.trim().trim_start_matches("pub ").trim_start_matches("use ").trim_end_matches(';');
            lines.extend(expand(path).into_iter().map(|path| (start, format!("use {path};"))));
        } else {
            lines.push((start, statement));
        }
    }
    lines
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(path: &str) -> Vec<String> {
    let Some((prefix, group)) = path.split_once('{') else { return vec![path.trim().to_owned()] };
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let mut depth = 0;
    let parts = group.split(|letter: char| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    });
    let parts = parts.filter(|part| !part.trim().is_empty()).flat_map(expand);
    parts.map(|part| format!("{}{part}", prefix.trim())).collect()
}

/// Whether the line uses the name as a path, not as a part of another word.
fn names(line: &str, name: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        let ends = !after.starts_with(part);
        // A bare crate's name counts where a path goes on from it or a `use` ends with it.
        let path = name.contains("::") || after.starts_with("::") || after.starts_with(';');
        ends && path && !before.is_some_and(|letter| part(letter) || letter == ':')
    })
}

fn applies(rule: &Rule, file: &str) -> bool {
    let covers = |pattern: &&str| if pattern.ends_with('/') { file.starts_with(*pattern) } else { file == *pattern };
    rule.files.iter().any(covers) && !rule.except.iter().any(covers)
}

fn wrong_arrows(sources: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (file, text) in sources {
        for rule in RULES.iter().filter(|rule| applies(rule, file)) {
            for (number, line) in code(text) {
                for name in rule.forbidden.iter().filter(|name| names(&line, name)) {
                    wrong.push(format!("{file}:{number} must not know `{name}`: {}", line.trim()));
                }
            }
        }
    }
    wrong
}

#[test]
fn every_import_follows_the_arrows() {
    let wrong = wrong_arrows(&sources());
    assert!(wrong.is_empty(), "see docs/ARCHITECTURE.md, \"Who may import whom\":\n{}", wrong.join("\n"));
}

#[test]
fn a_wrong_arrow_is_found() {
    let planted = [
        ("control-plane/src/model/key.rs", "use crate::store::engine::Engine;"),
        ("control-plane/src/publisher.rs", "    let row = sqlx::query(\"\");"),
        ("data-plane/src/dialect/openai.rs", "use tokio;"),
        ("data-plane/src/pipeline/relay.rs", "use hyper_util::client::legacy::Client;"),
        ("data-plane/src/runtime/provider.rs", "use crate::{\n    dialect::Facts,\n    upstream::{Pool, Line},\n};"),
        ("data-plane/src/lib.rs", "fn f() { control_plane::run() }"),
        ("data-plane/src/lib.rs", "#[cfg(test)]\nmod tests;\nuse control_plane::run;"),
    ];
    for (file, line) in planted {
        let sources = BTreeMap::from([(file.to_owned(), format!("//! Fine.\n{line}\n"))]);
        assert!(!wrong_arrows(&sources).is_empty(), "{file}: {line}");
    }
    let innocent = "//! Knows nothing of crate::store.\nlet x = \"x\"; // nor of sqlx::query\n#[cfg(test)]\n\
        use crate::store;\n#[cfg(test)]\nmod tests {\n    use crate::store;\n}\n";
    let sources = BTreeMap::from([("control-plane/src/model/key.rs".to_owned(), innocent.to_owned())]);
    assert_eq!(wrong_arrows(&sources), Vec::<String>::new());
}

#[test]
fn the_planes_do_not_depend_on_each_other() {
    for (plane, other) in [("control-plane", "data-plane"), ("data-plane", "control-plane")] {
        let manifest = fs::read_to_string(root().join(plane).join("Cargo.toml")).unwrap();
        assert!(!manifest.lines().any(|line| line.starts_with(other)), "{plane} must not depend on {other}");
    }
}

#[test]
fn every_file_has_a_purpose_a_name_and_a_size() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let name = Path::new(&file).file_stem().expect("a file has a name").to_string_lossy().into_owned();
        if ["mod", "utils", "util", "helpers", "common", "misc", "core", "base", "types", "manager", "service"]
            .contains(&name.as_str())
        {
            wrong.push(format!("{file}: a drawer, not a name"));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{file}: begins with what it decides and what it refuses to know (`//!`)"));
        }
        let lines = text.lines().count();
        if lines > 600 {
            wrong.push(format!("{file}: {lines} lines ask for a seam"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
