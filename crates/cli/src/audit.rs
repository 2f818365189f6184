//! What every file of a run begins with: who captured what, when, and with which settings.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use ecapture_protocols::format::{Audit, User, command_line};
use ecapture_protocols::privacy::{Level, Privacy};
use nix::unistd::{self, Uid, getuid};

use crate::outputs::host_name;

/// The audit of a run whose files show what `privacy` and `filter` say; `None`: everything.
pub(crate) fn of(privacy: Option<&Privacy>, filter: Option<&str>) -> Audit {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    Audit {
        program: concat!("ecapture ", env!("CARGO_PKG_VERSION")),
        time_ns: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
        user: user(getuid()),
        login: login().map(user),
        sudo_user: std::env::var("SUDO_USER").ok(),
        host: host_name(),
        pid: std::process::id(),
        command: command_line(words.iter().map(String::as_str)),
        privacy: privacy.map_or(Level::Full, |privacy| privacy.level),
        redacted: privacy.is_some_and(|privacy| privacy.secrets.is_some()),
        filter: filter.map(str::to_owned),
    }
}

fn user(id: Uid) -> User {
    let name = unistd::User::from_uid(id).ok().flatten().map(|user| user.name);
    User {
        id: id.as_raw(),
        name,
    }
}

/// The user who logged in; `None` if none did, as in a service, or the kernel does not know.
fn login() -> Option<Uid> {
    let text = fs::read_to_string("/proc/self/loginuid").ok()?;
    let id = text.trim().parse().ok().filter(|id| *id != u32::MAX)?;
    Some(Uid::from_raw(id))
}
