//! The help texts, word for word: a changed option is a changed interface.
use std::process::Command;

/// Every command that has a help text.
const COMMANDS: [&[&str]; 16] = [
    &[],
    &["dev"],
    &["control-plane"],
    &["data-plane"],
    &["sample"],
    &["config"],
    &["openapi"],
    &["usage"],
    &["logs"],
    &["audit"],
    &["audit", "verify"],
    &["audit", "usage"],
    &["explain"],
    &["doctor"],
    &["completion"],
    &["version"],
];

fn lockgate(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lockgate")).args(arguments).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_texts() {
    for command in COMMANDS {
        let (code, help, _) = lockgate(&[command, &["--help"]].concat());
        assert_eq!(code, Some(0));
        let name = if command.is_empty() { "lockgate".to_owned() } else { command.join("-") };
        insta::assert_snapshot!(name, help);
    }
}

#[test]
fn every_command_has_a_snapshot() {
    let (_, help, _) = lockgate(&["--help"]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for name in listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        assert!(COMMANDS.iter().any(|command| command.first() == Some(&name)), "`{name}` is in no test");
    }
}

#[test]
fn a_wrong_command_line_ends_with_two() {
    let (code, out, error) = lockgate(&["dev", "--gatway-listen", "127.0.0.1:0"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(error.contains("--gateway-listen"), "{error}");
}

#[test]
fn a_wrong_key_is_one_line_with_the_nearest_name() {
    for (plane, set) in [("control-plane", "server.listn=127.0.0.1:0"), ("data-plane", "gateway.listn=127.0.0.1:0")] {
        let (code, out, error) = lockgate(&[plane, "--set", set, "--check"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{error}");
        assert!(error.starts_with("error: ") && error.contains("listen"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn what_config_prints_is_a_configuration() {
    for plane in ["control-plane", "data-plane"] {
        let (code, printed, _) = lockgate(&["config", plane]);
        assert_eq!(code, Some(0));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), printed).unwrap();
        let (code, out, error) = lockgate(&[plane, "--config", file.path().to_str().unwrap(), "--check"]);
        assert_eq!((code, out.as_str()), (Some(0), "the configuration is usable\n"), "{error}");
    }
}
