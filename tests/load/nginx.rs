//! nginx doing what the floor does: a key looked up in a `map`, a credential set, connections to the upstream kept.
//! One process, no access log, nothing buffered of a stream, nothing ever on disk.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context as _;

use crate::{
    feeder::configuration,
    process::{Core, Process},
    subject::{FEW, Ground},
};

/// `None`: there is none on this machine.
pub(crate) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    folders.map(|folder| folder.join("nginx")).find(|program| program.is_file())
}

/// Streams are passed unbuffered, which nginx decides by location.
pub(crate) fn context(path: &str) -> &'static str {
    if path == "/v1/chat/completions" { "/load" } else { "/stream" }
}

pub(crate) fn start(ground: &Ground) -> anyhow::Result<(Process, SocketAddr)> {
    let program = find().context("nginx is not installed")?;
    let folder = tempfile::tempdir_in(ground.folder.path())?.keep();
    let address = ::tests::process::free_address();
    let path = folder.join("nginx.conf");
    fs::write(&path, config(&folder, address, ground.upstream))?;
    let mut command = ground.cores.command(Core::Subject, &program);
    command.arg("-p").arg(&folder).arg("-c").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
    Ok((Process::spawn(&ground.warden, command)?, address))
}

fn config(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let keys = (0..FEW.keys).map(|number| format!("        {:?} 1;\n", configuration::key(number)));
    let keys = keys.collect::<Vec<_>>().concat();
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {}/{name};\n", folder.display()))
        .concat();
    let pass = "if ($known = 0) { return 401; }\n            proxy_pass http://upstream/;";
    format!(
        "daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid {folder}/pid;
error_log {folder}/error.log error;
events {{
    worker_connections 16384;
    multi_accept on;
}}
http {{
    access_log off;
{temp}
    map_hash_bucket_size 256;
    map $http_x_api_key $known {{
        default 0;
{keys}    }}
    upstream upstream {{
        server {upstream};
        keepalive 256;
        keepalive_requests 1000000000;
        keepalive_time 1d;
    }}
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_header_timeout 600s;
    client_max_body_size 0;
    client_body_buffer_size 64k;
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    proxy_set_header Connection \"\";
    proxy_set_header X-API-Key \"\";
    proxy_set_header Authorization \"Bearer sk-load\";
    server {{
        listen {address} backlog=4096;
        location /load/ {{
            {pass}
        }}
        location /stream/ {{
            proxy_buffering off;
            {pass}
        }}
    }}
}}
",
        folder = folder.display(),
    )
}
