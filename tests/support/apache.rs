//! Apache with its module for OpenSSL, without anything of the system's configuration.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::servers::{Certificate, Server, free_port};

/// How it shares its work among processes and threads ("multi-processing module").
#[derive(Clone, Copy)]
pub(crate) enum Processing {
    /// A process for each connection.
    Prefork,
    /// A thread for each request that is under way; the event loop waits for the next.
    Event,
}

impl Processing {
    fn name(self) -> &'static str {
        match self {
            Self::Prefork => "prefork",
            Self::Event => "event",
        }
    }
}

impl Server {
    /// Apache serving `folder`, and the Git repositories in it below `/git/`.
    pub(crate) fn apache(folder: &Path, certificate: &Certificate, processing: Processing) -> Self {
        let port = free_port();
        let file = folder.join(format!("apache-{port}.conf"));
        let text = configuration(folder, certificate, processing, port);
        std::fs::write(&file, text).expect("a written file");
        let mut command = Command::new("apache2");
        command.args(["-D", "FOREGROUND", "-f"]).arg(file);
        // At its end it ends its whole process group.
        command.process_group(0);
        Self::listening(command, port)
    }
}

fn configuration(folder: &Path, certificate: &Certificate, processing: Processing, port: u16) -> String {
    let mpm = processing.name();
    let modules = [
        "authz_core",
        "ssl",
        "mime",
        "alias",
        "env",
        "cgi",
        &format!("mpm_{mpm}"),
    ];
    let load = modules
        .map(|module| format!("LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n"));
    let folder = folder.display();
    let (key, certificate) = (certificate.key.display(), certificate.certificate.display());
    format!(
        "{}ServerRoot {folder}
ServerName 127.0.0.1
DefaultRuntimeDir {folder}
PidFile {folder}/apache-{port}.pid
ErrorLog {folder}/apache-{port}.log
Listen 127.0.0.1:{port}
User nobody
Group nogroup
StartServers 1
TypesConfig /dev/null
AddType application/json .json
DocumentRoot {folder}
SSLEngine on
SSLCertificateFile {certificate}
SSLCertificateKeyFile {key}
ScriptAlias /git/ /usr/lib/git-core/git-http-backend/
SetEnv GIT_PROJECT_ROOT {folder}
SetEnv GIT_HTTP_EXPORT_ALL 1
SetEnv GIT_CONFIG_COUNT 1
SetEnv GIT_CONFIG_KEY_0 safe.directory
SetEnv GIT_CONFIG_VALUE_0 *
",
        load.concat()
    )
}
