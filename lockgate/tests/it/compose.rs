//! `docker-compose.yml` and `Dockerfile`, held against what the binary really takes. No Docker engine is needed: the
//! files are parsed, and every service's environment is given to the real binary.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap()
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).unwrap()
}

/// Services that run our image, with their names.
fn ours(compose: &Value) -> BTreeMap<String, &Value> {
    let services = compose["services"].as_object().unwrap().iter();
    services
        .filter(|(_, service)| service["image"] == "lockgate")
        .map(|(name, service)| (name.clone(), service))
        .collect()
}

/// `${NAME:-default}` replaced by the default: nobody has to set anything.
fn interpolate(text: &str) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.to_owned() };
    let (variable, after) = rest.split_once('}').expect("a closing brace");
    let (_, default) = variable.split_once(":-").unwrap_or_else(|| panic!("`{variable}` has no default"));
    format!("{before}{default}{}", interpolate(after))
}

fn environment(service: &Value) -> BTreeMap<String, String> {
    let variables = service["environment"].as_object().unwrap().iter();
    variables.map(|(name, value)| (name.clone(), interpolate(value.as_str().unwrap()))).collect()
}

fn command(service: &Value) -> Vec<String> {
    service["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// Every key of a plane's reference, also those that stand in comments because they have no default.
fn known_keys(plane: &str) -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in read(&format!("{plane}/config.default.toml")).lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ")
            && key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
        {
            keys.push(format!("{section}.{key}"));
        }
    }
    assert!(keys.len() > 5, "the reference of {plane} has another form: {keys:?}");
    keys
}

fn port(text: &str) -> u16 {
    text.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn every_variable_is_a_key_of_the_reference() {
    let compose = compose();
    for (name, service) in ours(&compose) {
        let keys = known_keys(&command(service)[0]);
        for variable in environment(service).keys().filter(|variable| variable.starts_with("LOCKGATE_")) {
            let key = variable["LOCKGATE_".len()..].to_lowercase().replacen("__", ".", 1);
            assert!(keys.contains(&key), "{name}: {variable} sets `{key}`, which is none of {keys:?}");
        }
    }
}

#[test]
fn the_planes_take_the_environment_they_are_given() {
    let compose = compose();
    let services = ours(&compose);
    assert_eq!(services.keys().collect::<Vec<_>>(), ["control-plane", "data-plane"]);
    for (name, service) in services {
        let mut lockgate = Command::new(env!("CARGO_BIN_EXE_lockgate"));
        lockgate.env_clear().envs(environment(service)).args(command(service)).arg("--check");
        let output = lockgate.output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        // The same with a misspelt key, or this test would pass whatever the environment said.
        let output = lockgate.env("LOCKGATE_LOG__FORMATT", "json").output().unwrap();
        assert!(!output.status.success(), "{name} takes a key that does not exist");
    }
}

#[test]
fn addresses_meet() {
    let compose = compose();
    let control = environment(&compose["services"]["control-plane"]);
    let node = environment(&compose["services"]["data-plane"]);
    let link = port(&control["LOCKGATE_LINK__LISTEN"]);
    assert_eq!(node["LOCKGATE_LINK__ADDRESS"], format!("control-plane:{link}"));
    assert_eq!(control["LOCKGATE_LINK__PUBLIC_ADDRESS"], node["LOCKGATE_LINK__ADDRESS"]);
    assert!(control["DATABASE_URL"].contains("@postgres:5432/"));
    for listen in ["LOCKGATE_SERVER__LISTEN", "LOCKGATE_LINK__LISTEN"] {
        assert!(control[listen].starts_with("0.0.0.0:"), "{listen} must be reachable from other containers");
    }

    let balancer = compose["configs"]["load-balancer"]["content"].as_str().unwrap();
    let gateway = port(&node["LOCKGATE_GATEWAY__LISTEN"]);
    let admin = port(&node["LOCKGATE_ADMIN__LISTEN"]);
    assert!(balancer.contains(&format!(" data-plane:{gateway} ")), "{balancer}");
    assert!(balancer.contains(&format!("check port {admin} ")), "{balancer}");

    // What is published is what the services listen on, and what the URLs say, on loopback alone.
    let published = |service: &str| {
        let ports = compose["services"][service]["ports"].as_array().unwrap();
        let [only] = ports.as_slice() else { panic!("{service} publishes {ports:?}") };
        let parts: Vec<&str> = only.as_str().unwrap().split(':').collect();
        assert_eq!(parts[0], "127.0.0.1", "{service}: plain http is for this machine alone");
        (format!("http://{}:{}", parts[0], parts[1]), parts[2].parse::<u16>().unwrap())
    };
    let api = (control["LOCKGATE_SERVER__PUBLIC_URL"].clone(), port(&control["LOCKGATE_SERVER__LISTEN"]));
    assert_eq!(published("control-plane"), api);
    let (gateway_url, balancer_port) = published("load-balancer");
    assert_eq!(gateway_url, control["LOCKGATE_BOOTSTRAP__GATEWAY_BASE_URL"]);
    assert!(balancer.contains(&format!("bind :{balancer_port}\n")), "{balancer}");
}

#[test]
fn nodes_can_be_scaled() {
    let compose = compose();
    let node = &compose["services"]["data-plane"];
    for fixed in ["container_name", "ports", "hostname"] {
        assert!(node[fixed].is_null(), "two nodes cannot share one {fixed}");
    }
    assert!(!environment(node).contains_key("LOCKGATE_GATEWAY__NAME"), "nodes are named by their machines");
    // The only volume that nodes share is the one with the token, and none of them writes to it.
    let volumes: Vec<&str> =
        node["volumes"].as_array().unwrap().iter().map(|volume| volume.as_str().unwrap()).collect();
    let shared: Vec<&&str> = volumes.iter().filter(|volume| !volume.starts_with('/')).collect();
    assert_eq!(shared, [&"gateway-token:/run/lockgate:ro"]);
    assert!(
        volumes.contains(&environment(node)["LOCKGATE_STORE__DATA_DIR"].as_str()),
        "a disk of its own: {volumes:?}"
    );
}

#[test]
fn files_that_are_written_lie_in_volumes_that_exist() {
    let compose = compose();
    let named = compose["volumes"].as_object().unwrap();
    let networks = compose["networks"].as_object().unwrap();
    for (name, service) in compose["services"].as_object().unwrap() {
        let volumes = service["volumes"].as_array().cloned().unwrap_or_default();
        let mounts: Vec<String> = volumes
            .iter()
            .map(|volume| volume.as_str().unwrap())
            .map(|volume| match volume.split(':').collect::<Vec<_>>().as_slice() {
                [path] => (*path).to_owned(),
                [source, path, ..] => {
                    assert!(named.contains_key(*source), "{name}: the volume `{source}` is not declared");
                    (*path).to_owned()
                }
                [] => unreachable!("split gives at least one part"),
            })
            .collect();
        for network in service["networks"].as_array().unwrap() {
            assert!(networks.contains_key(network.as_str().unwrap()), "{name}: {network} is not declared");
        }
        if service["image"] != "lockgate" {
            continue;
        }
        assert_eq!(service["read_only"], true);
        for (variable, path) in environment(service).iter().filter(|(_, value)| value.starts_with('/')) {
            let mounted = mounts.iter().any(|mount| Path::new(path).starts_with(mount));
            assert!(mounted, "{name}: {variable}={path} lies in none of {mounts:?}");
            let owned = dockerfile()
                .iter()
                .any(|line| line.starts_with("RUN") && mounts.iter().all(|mount| line.contains(mount)));
            assert!(owned, "the image does not make {mounts:?} its user's");
        }
    }
    let token = "/run/lockgate/gateway-token";
    assert_eq!(environment(&compose["services"]["control-plane"])["LOCKGATE_BOOTSTRAP__GATEWAY_TOKEN_FILE"], token);
    assert_eq!(environment(&compose["services"]["data-plane"])["LOCKGATE_LINK__TOKEN_FILE"], token);
}

#[test]
fn health_checks_are_commands_of_the_binary() {
    let compose = compose();
    for (name, service) in ours(&compose) {
        let test: Vec<&str> =
            service["healthcheck"]["test"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let ["CMD", "lockgate", "doctor", url] = test.as_slice() else { panic!("{name}: {test:?}") };
        let listen = if name == "control-plane" { "LOCKGATE_SERVER__LISTEN" } else { "LOCKGATE_ADMIN__LISTEN" };
        assert_eq!(
            port(url),
            port(&environment(service)[listen]),
            "{name} is asked at another port than it listens on"
        );
        // Nothing is listening there: the command exists, asks, and says so.
        let output =
            Command::new(env!("CARGO_BIN_EXE_lockgate")).args(["doctor", "http://127.0.0.1:1"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stdout).contains("no answer"));
    }
}

/// Instructions of the Dockerfile, continuation lines joined.
fn dockerfile() -> Vec<String> {
    let text = read("Dockerfile").replace("\\\n", " ");
    text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

fn arguments(instructions: &[String], name: &str) -> Vec<Vec<String>> {
    let lines = instructions.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn the_image_runs_as_a_user_of_its_own() {
    let instructions = dockerfile();
    let last_stage = instructions.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    let (build, run) = instructions.split_at(last_stage);
    let [user] = &arguments(run, "USER")[..] else { panic!("one USER in the last stage") };
    let (uid, gid) = user[0].split_once(':').expect("uid:gid, which an orchestrator can check");
    assert!(uid.parse::<u32>().unwrap() >= 1000 && gid.parse::<u32>().unwrap() >= 1000);
    assert!(arguments(build, "USER").is_empty());
    assert_eq!(arguments(run, "ENTRYPOINT"), [[r#"["lockgate"]"#]]);
    assert!(run.iter().any(|line| line == "COPY --from=build /lockgate /usr/local/bin/lockgate"));

    let exposed: Vec<u16> = arguments(run, "EXPOSE").concat().iter().map(|port| port.parse().unwrap()).collect();
    let compose = compose();
    for (name, service) in ours(&compose) {
        for (variable, value) in environment(service).iter().filter(|(variable, _)| variable.ends_with("__LISTEN")) {
            assert!(exposed.contains(&port(value)), "{name}: {variable} is not exposed");
        }
    }
}

#[test]
fn the_image_is_built_from_what_is_there() {
    let instructions = dockerfile();
    let root = repository();
    let copies: Vec<Vec<String>> =
        arguments(&instructions, "COPY").into_iter().filter(|words| !words[0].starts_with("--from=")).collect();
    for words in &copies {
        for source in &words[..words.len() - 1] {
            assert!(root.join(source).exists(), "COPY {source}: no such file");
        }
    }
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let member = member.as_str().unwrap().to_owned();
        assert!(copies.iter().any(|words| words.contains(&member)), "the build stage lacks the crate `{member}`");
    }
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    assert!(arguments(&instructions, "FROM").iter().any(|words| words[0].starts_with(&format!("rust:{channel}-"))));
    assert!(instructions.contains(&format!("ENV RUSTUP_TOOLCHAIN={channel}")));
}
