//! Layers, names and errors of the configuration.

use super::*;

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn error(file: Option<&Path>, environment: Vec<(String, String)>) -> String {
    Config::load(file, environment, []).unwrap_err().to_string()
}

#[test]
fn the_built_in_defaults_are_a_configuration() {
    let config = Config::default();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:9080");
    assert_eq!(config.link.listen.to_string(), "127.0.0.1:9443");
    assert!(config.store.url.is_none());
    assert!(!config.server.allow_insecure);
}

#[test]
fn every_key_of_the_reference_exists_also_those_shown_as_comments() {
    let uncommented: String = DEFAULTS
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains([' ', '`'])) => rest,
            _ => line,
        })
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(uncommented.contains("\npublic_url = "), "{uncommented}");
    let values: Dict = toml::from_str(&uncommented).unwrap();
    let figment = Figment::from(Layer { name: "test".to_owned(), values });
    figment.extract::<Config>().unwrap();
}

#[test]
fn flags_win_over_environment_and_environment_over_file() {
    let file = file("[server]\nlisten = \"127.0.0.1:1\"\nmax_connections = 1\n[log]\nfilter = \"warn\"\n");
    let environment = pairs([("LOCKGATE_SERVER__LISTEN", "127.0.0.1:2"), ("LOCKGATE_SERVER__MAX_CONNECTIONS", "2")]);
    let flags = pairs([("server.listen", "127.0.0.1:3")]);
    let config = Config::load(Some(file.path()), environment, flags).unwrap();
    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.server.max_connections, 2);
    assert_eq!(config.log.filter, "warn");
}

#[test]
fn an_unknown_key_is_refused_with_its_layer_and_the_nearest_name() {
    let file = file("[server]\nlissten = \"127.0.0.1:1\"\n");
    assert_eq!(
        error(Some(file.path()), vec![]),
        format!("unknown key `server.lissten` in the file {}; did you mean `server.listen`?", file.path().display())
    );
    assert_eq!(
        error(None, pairs([("LOCKGATE_STORE__DATADIR", "/x")])),
        "unknown key `store.datadir` in the environment variable LOCKGATE_STORE__DATADIR; did you mean `store.data_dir`?"
    );
    assert_eq!(
        error(None, pairs([("LOCKGATE_ZZZ__LISTEN", "127.0.0.1:1")])),
        "unknown key `zzz` in the environment variable LOCKGATE_ZZZ__LISTEN; \
         there are: server, store, link, security, bootstrap, usage, log"
    );
    let error = Config::load(None, [], pairs([("log.fromat", "json")])).unwrap_err().to_string();
    assert_eq!(error, "unknown key `log.fromat` in the command line; did you mean `log.format`?");
}

#[test]
fn only_variables_with_two_underscores_are_read() {
    let environment = pairs([("LOCKGATE_VERSION", "1"), ("PATH", "/bin"), ("LOCKGATE_LOG__FILTER", "")]);
    assert_eq!(Config::load(None, environment, []).unwrap().log.filter, "info");
}

#[test]
fn a_value_of_the_wrong_form_names_key_and_layer() {
    let message = error(None, pairs([("LOCKGATE_SERVER__LISTEN", "here")]));
    assert!(message.starts_with("`server.listen` in the environment variable LOCKGATE_SERVER__LISTEN is not usable"));
    let message = error(None, pairs([("LOCKGATE_SERVER__ALLOW_INSECURE", "perhaps")]));
    assert!(message.contains("expected a boolean"), "{message}");
}

#[test]
fn database_url_lies_below_our_own_variable() {
    let url = |environment| Config::load(None, environment, []).unwrap().store.url.unwrap().expose().to_owned();
    assert_eq!(url(pairs([("DATABASE_URL", "postgres://a/b")])), "postgres://a/b");
    let both = pairs([("LOCKGATE_STORE__URL", "postgres://own/b"), ("DATABASE_URL", "postgres://a/b")]);
    assert_eq!(url(both), "postgres://own/b");
}

#[test]
fn a_secret_is_read_from_its_file_without_the_last_newline() {
    let secret = file("postgres://user:canary-password@host/db\n");
    let path = secret.path().to_str().unwrap();
    for name in ["LOCKGATE_STORE__URL_FILE", "DATABASE_URL_FILE"] {
        let config = Config::load(None, pairs([(name, path)]), []).unwrap();
        assert_eq!(config.store.url.as_ref().unwrap().expose(), "postgres://user:canary-password@host/db");
        assert!(!format!("{config:?}").contains("canary"));
    }
    let message = error(None, pairs([("DATABASE_URL_FILE", "/nonexistent/url")]));
    assert!(message.starts_with("cannot read /nonexistent/url (store.url_file)"), "{message}");
}

#[test]
fn a_secret_and_its_file_together_are_refused() {
    let secret = file("postgres://file/db");
    let environment =
        pairs([("DATABASE_URL", "postgres://a/b"), ("LOCKGATE_STORE__URL_FILE", secret.path().to_str().unwrap())]);
    assert_eq!(
        error(None, environment),
        "`store.url` (in the environment variable DATABASE_URL) and `store.url_file` \
         (in the environment variable LOCKGATE_STORE__URL_FILE) are both set; remove one of them"
    );
}

#[test]
fn no_error_repeats_a_value_that_may_be_secret() {
    let broken = file("[store]\nurl = \"postgres://user:canary-password@host\" oops\n");
    let message = error(Some(broken.path()), vec![]);
    assert!(message.contains("line 2") && !message.contains("canary"), "{message}");
    let message = error(None, pairs([("LOCKGATE_SERVER__MAX_CONNECTIONS", "canary-password")]));
    assert!(!message.contains("canary"), "{message}");
    let misplaced = file("[server]\nallow_insecure = \"canary-password\"\n");
    let message = error(Some(misplaced.path()), vec![]);
    assert!(!message.contains("canary"), "{message}");
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let message = error(Some(Path::new("/nonexistent/lockgate.toml")), vec![]);
    assert!(message.starts_with("cannot read /nonexistent/lockgate.toml (--config)"), "{message}");
}

#[test]
fn a_list_in_the_environment_is_written_as_in_the_file() {
    for list in ["[\"10.0.0.0/8\", \"fd00::/8\"]", "[10.0.0.0/8, fd00::/8]"] {
        let config = Config::load(None, pairs([("LOCKGATE_SERVER__TRUSTED_PROXIES", list)]), []).unwrap();
        assert_eq!(config.server.trusted_proxies.len(), 2, "{list}");
    }
    let message = error(None, pairs([("LOCKGATE_SERVER__TRUSTED_PROXIES", "10.0.0.0/8")]));
    assert!(message.contains("expected a sequence"), "{message}");
}
