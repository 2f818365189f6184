//! Changes of a running capture, by the original's routes.
//!
//! Everything is validated before anything is changed. New libraries are attached to, then all filters are
//! switched at once, then the formats. The answer comes when that is done; after an error the run is as it was.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use ecapture_probe::{CaptureHandle, Kind};
use serde_json::{Map, Value, json};

use super::Run;
use super::request::Request;
use crate::outputs::Looks;
use crate::settings::{CaptureSettings, OutputSettings};

/// What can be changed of a run.
pub(crate) struct Live {
    capture: CaptureHandle,
    looks: Arc<Looks>,
    /// The original's name of what is captured.
    module: &'static str,
    runs_command: bool,
    finds_all: bool,
    state: Mutex<Shown>,
}

/// How records look.
#[derive(Debug, Clone, Copy)]
struct Shown {
    hex: bool,
    truncate: Option<usize>,
}

/// The routes, with the name of the module in the reply.
const MODULES: [(&[&str], &str); 7] = [
    (&["/tls", "/openssl", "/boringssl"], "openssl"),
    (&["/gotls"], "gotls"),
    (&["/gnutls"], "gnutls"),
    (&["/nss", "/nspr"], "nspr"),
    (&["/bash"], "bash"),
    (&["/mysqld"], "mysql"),
    (&["/postgres", "/postgress"], "postgres"),
];

/// Numbers in the reply, as the original has them.
#[derive(Debug, Clone, Copy)]
enum Code {
    Ok = 0,
    NotDecoded = 4,
    NotAccepted = 5,
}

impl Live {
    /// A capture whose filters may change.
    pub(crate) fn new(
        capture: CaptureHandle,
        looks: Arc<Looks>,
        output: &OutputSettings,
        settings: &CaptureSettings,
    ) -> Self {
        Self {
            capture,
            looks,
            module: match settings.libraries.kinds {
                [Kind::Go] => "gotls",
                [Kind::GnuTls] => "gnutls",
                [Kind::Nspr, ..] => "nspr",
                _ => "openssl",
            },
            runs_command: !settings.command.is_empty(),
            finds_all: settings.libraries.files.is_empty(),
            state: Mutex::new(Shown {
                hex: output.hex,
                truncate: output.truncate,
            }),
        }
    }

    /// The settings in force that a change can alter.
    pub(super) fn in_force(&self) -> Value {
        let shown = *self.state();
        let filters = self.capture.filters().unwrap_or_default();
        json!({
            "module": self.module,
            "pid": filters.processes,
            "follow_children": filters.follow_children,
            "uid": filters.uid,
            "cgroup_path": filters.cgroup,
            "hex": shown.hex,
            "tsize": shown.truncate.unwrap_or(0),
        })
    }

    /// Applies a change, or leaves everything as it is.
    fn apply(&self, request: &Request) -> Result<(), String> {
        // One change at a time.
        let mut shown = self.state();
        let next = Shown {
            hex: request.hex.unwrap_or(shown.hex),
            truncate: request.truncate.clone().map_or(shown.truncate, Option::from),
        };
        self.check(request, next)?;
        self.filter(request)?;
        if request.hex.is_some() || request.truncate.is_some() {
            self.looks.change(next.hex, next.truncate);
        }
        *shown = next;
        Ok(())
    }

    fn check(&self, request: &Request, next: Shown) -> Result<(), String> {
        if request.files.as_ref().is_some_and(|files| !files.is_empty()) {
            return Err("libraries cannot be changed while ecapture runs; start it with --libssl, --elfpath, --gnutls \
                        or --nspr"
                .to_owned());
        }
        if next.hex && !self.looks.have_text() {
            return Err("hex: no output has the text or protobuf format".to_owned());
        }
        if self.runs_command && (request.pids.is_some() || request.follow_children.is_some()) {
            return Err("pid: this run captures its command; start another one with --pid".to_owned());
        }
        Ok(())
    }

    fn filter(&self, request: &Request) -> Result<(), String> {
        let before = self.capture.filters().unwrap_or_default();
        let mut filters = before.clone();
        if let Some(pids) = &request.pids {
            filters.processes = (!pids.is_empty()).then(|| pids.clone());
        }
        if let Some(follow_children) = request.follow_children {
            filters.follow_children = follow_children;
        }
        if filters.processes.is_none() {
            filters.follow_children = false;
        }
        filters.uid = request.uid.clone().map_or(filters.uid, Option::from);
        if let Some(cgroup) = request.cgroup.clone() {
            filters.cgroup = cgroup.into();
        }
        if filters == before {
            return Ok(());
        }
        if self.finds_all && filters.processes != before.processes {
            self.capture.attach_to(filters.processes.as_deref());
        }
        self.capture
            .change_filters(&filters)
            .map_err(|error| error.to_string())
    }

    fn state(&self) -> MutexGuard<'_, Shown> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The routes of changes.
pub(super) fn routes() -> Router<Arc<Run>> {
    let routes = MODULES.into_iter().flat_map(|(paths, module)| {
        let paths = paths.iter();
        paths.map(move |path| (*path, module))
    });
    routes.fold(Router::new(), |router, (path, module)| {
        let change = move |State(run): State<Arc<Run>>, body: String| change(run, module, body);
        router.route(path, post(change))
    })
}

async fn change(run: Arc<Run>, module: &'static str, body: String) -> Response {
    let body: Map<String, Value> = match serde_json::from_str(&body) {
        Ok(body) => body,
        Err(error) => {
            return reply(
                module,
                Code::NotDecoded,
                &format!("not a JSON object: {error}"),
                None,
            );
        }
    };
    let request = match check_module(&run, module).and_then(|()| Request::read(&body)) {
        Ok(request) => request,
        Err(problem) => return reply(module, Code::NotAccepted, &problem, None),
    };
    // Files are read, and the kernel is waited for.
    let applied = tokio::task::spawn_blocking(move || {
        let live = run.live.as_ref().ok_or_else(|| NOTHING.to_owned())?;
        live.apply(&request)?;
        tracing::info!("changed by --listen: {}", live.in_force());
        Ok::<_, String>(request.unused)
    });
    match applied.await {
        Ok(Ok(unused)) => reply(module, Code::Ok, "RespOK", Some(unused)),
        Ok(Err(problem)) => reply(module, Code::NotAccepted, &problem, None),
        Err(error) => reply(module, Code::NotAccepted, &error.to_string(), None),
    }
}

const NOTHING: &str = "a replay cannot be changed; start it again with other flags";

fn check_module(run: &Run, module: &str) -> Result<(), String> {
    let live = run.live.as_ref().ok_or(NOTHING)?;
    match module {
        "bash" | "mysql" | "postgres" => Err(format!("{module} is not captured yet; only TLS is")),
        other if other != live.module => Err(format!(
            "this run captures {}; start another one for {other}",
            live.module
        )),
        _ => Ok(()),
    }
}

/// The original's reply. `unused` are keys that change nothing.
fn reply(module: &str, code: Code, message: &str, unused: Option<Vec<(String, &str)>>) -> Response {
    let status = match code {
        Code::Ok => StatusCode::OK,
        Code::NotDecoded | Code::NotAccepted => StatusCode::BAD_REQUEST,
    };
    let unused: Map<String, Value> = unused
        .into_iter()
        .flatten()
        .map(|(key, reason)| (key, reason.into()))
        .collect();
    let data = if unused.is_empty() {
        Value::Null
    } else {
        json!({ "unused": unused })
    };
    let body = json!({ "code": code as u8, "module_type": module, "msg": message, "data": data });
    (status, Json(body)).into_response()
}
