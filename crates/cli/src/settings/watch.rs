//! `ecapture watch`: several kinds of capture in one run.

use ecapture_probe::Modules;

use super::libraries::{LIBSSL, Libraries, of_mysqld, of_postgres};
use crate::args::WatchArgs;
use crate::usage::UsageError;

/// The libraries and programs of each kind that was named.
pub(crate) fn libraries(arguments: &WatchArgs) -> Result<Vec<Libraries>, UsageError> {
    let mut wanted = Vec::new();
    for word in &arguments.capture.words {
        let libraries = match word.as_str() {
            "tls" => Libraries::new(LIBSSL, &arguments.libssl, &[]),
            "bash" => (&arguments.bash).into(),
            "zsh" => (&arguments.zsh).into(),
            "mysqld" => of_mysqld(&arguments.mysqld),
            "postgres" => of_postgres(&arguments.postgres),
            _ => return Err(unknown(word)),
        };
        wanted.push(libraries);
    }
    if wanted.is_empty() {
        return Err(unknown("nothing"));
    }
    Ok(wanted)
}

fn unknown(observed: &str) -> UsageError {
    let names: Vec<_> = Modules::ALL.names().collect();
    UsageError::Watched {
        expected: names.join(", "),
        observed: observed.to_owned(),
    }
}
