//! Changes of a running capture, by the original's routes.
//!
//! Everything is validated before anything is changed. New libraries are attached to and others are detached from,
//! then all filters are switched at once, then the formats. The answer comes when that is done; after an error the
//! run is as it was.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use ecapture_probe::{CaptureHandle, Filters, Kind};
use serde_json::{Map, Value, json};

use super::Run;
use super::attached::AttachedFiles;
use super::request::Request;
use crate::outputs::Looks;
use crate::settings::{CaptureSettings, OutputSettings};

/// Attaches to these files only, or to all that can be found when there are none. An error leaves everything as it is.
pub(crate) type ChangeLibraries = Box<dyn Fn(&[PathBuf]) -> anyhow::Result<()> + Send + Sync>;

/// The files that a capture is attached to.
pub(crate) struct Attached {
    /// The files.
    pub(crate) files: Arc<AttachedFiles>,
    /// Changes them.
    pub(crate) change: ChangeLibraries,
}

/// The settings of a run that can be changed.
pub(crate) struct Live {
    capture: CaptureHandle,
    looks: Arc<Looks>,
    /// The original's name of the module.
    module: &'static str,
    runs_command: bool,
    leaves_content_out: bool,
    attached: Attached,
    state: Mutex<State>,
}

/// The settings in force, beside the filters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    hex: bool,
    truncate: Option<usize>,
    /// Empty: all that can be found.
    files: Vec<PathBuf>,
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
        attached: Attached,
    ) -> Self {
        Self {
            capture,
            looks,
            module: match settings.libraries.kinds {
                [Kind::Go] => "gotls",
                [Kind::GnuTls, ..] => "gnutls",
                [Kind::Nspr, ..] => "nspr",
                _ => "openssl",
            },
            runs_command: !settings.command.is_empty(),
            leaves_content_out: output.leaves_content_out(),
            attached,
            state: Mutex::new(State {
                hex: output.hex,
                truncate: output.truncate,
                files: settings.libraries.files.clone(),
            }),
        }
    }

    /// The files that the capture is attached to.
    pub(super) fn attached(&self) -> &AttachedFiles {
        &self.attached.files
    }

    /// The settings in force that a change can alter.
    pub(super) fn in_force(&self) -> Value {
        let state = self.state().clone();
        let filters = self.capture.filters().unwrap_or_default();
        json!({
            "module": self.module,
            "pid": filters.processes,
            "follow_children": filters.follow_children,
            "uid": filters.uid,
            "cgroup_path": filters.cgroup,
            "libraries": state.files,
            "hex": state.hex,
            "tsize": state.truncate.unwrap_or(0),
            "filter": self.looks.filter().map(|filter| filter.as_str().to_owned()),
        })
    }

    /// Applies a change, or leaves everything as it is.
    fn apply(&self, request: &Request) -> Result<(), String> {
        // One change at a time.
        let mut state = self.state();
        let next = State {
            hex: request.hex.unwrap_or(state.hex),
            truncate: request.truncate.clone().map_or(state.truncate, Option::from),
            files: request.files.clone().unwrap_or_else(|| state.files.clone()),
        };
        self.check(request, &next)?;
        let before = self.capture.filters().unwrap_or_default();
        let filters = filters(&before, request);
        filters.check().map_err(|error| error.to_string())?;
        if next.files != state.files {
            (self.attached.change)(&next.files).map_err(|error| format!("{error:#}"))?;
        }
        let finds_more = filters.processes != before.processes || next.files != state.files;
        if next.files.is_empty() && finds_more {
            self.capture.attach_to(filters.processes.as_deref());
        }
        if filters != before {
            self.capture
                .change_filters(&filters)
                .map_err(|error| error.to_string())?;
        }
        self.looks.change(next.hex, next.truncate);
        if let Some(filter) = &request.filter {
            self.looks.select(filter.as_ref().map(|expression| &expression.0));
        }
        *state = next;
        Ok(())
    }

    fn check(&self, request: &Request, next: &State) -> Result<(), String> {
        request.check_content(self.leaves_content_out)?;
        if next.hex && !self.looks.have_text() {
            return Err("hex: no output has the text or protobuf format".to_owned());
        }
        if let Some(filter) = &request.filter
            && let Some(format) = self
                .looks
                .unfit_for(filter.as_ref().map(|expression| &expression.0))
        {
            return Err(format!(
                "filter: {format} would need other messages of the connections that are open; start ecapture with \
                 --filter"
            ));
        }
        if self.runs_command && (request.pids.is_some() || request.follow_children.is_some()) {
            return Err("pid: this run captures its command; start another one with --pid".to_owned());
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The filters that a request asks for; what it does not name is as before.
fn filters(before: &Filters, request: &Request) -> Filters {
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
    filters
}

/// The routes of changes.
pub(super) fn routes() -> Router<Arc<Run>> {
    let routes = MODULES.into_iter().flat_map(|(paths, module)| {
        let paths = paths.iter();
        paths.map(move |path| (*path, module))
    });
    routes.fold(Router::new(), |router, (path, module)| {
        let change =
            move |extract::State(run): extract::State<Arc<Run>>, body: String| change(run, module, body);
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
    if module == live.module {
        return Ok(());
    }
    Err(format!(
        "this run captures {}; start another one for {module}",
        live.module
    ))
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
