//! `-m MODE`: what a capture is for, and the outputs that follow from it.

use ecapture_probe::{Kind, Modules};

use super::libraries::Libraries;
use super::outputs::OutputSettings;
use super::packets::Mode;
use crate::args::{CaptureArgs, GlobalArgs};
use crate::usage::UsageError;

impl OutputSettings {
    /// Adds the output of the mode. Without `-o` and the flags that are short for one it is the only one.
    pub(crate) fn in_mode(
        self,
        global: &GlobalArgs,
        capture: &CaptureArgs,
        libraries: &Libraries,
    ) -> Result<Self, UsageError> {
        let named = capture.keylogfile.as_deref().filter(|file| !file.is_empty());
        match (Mode::read(capture)?, named) {
            (Mode::KeyLog, file) => {
                let names_output =
                    !global.output.is_empty() || global.format.is_some() || global.eventaddr.is_some();
                self.with_key_log(
                    file.unwrap_or_else(|| default_file(libraries.kinds)),
                    names_output,
                )
            }
            (Mode::Packets, Some(file)) => self.with_key_log(file, true),
            (Mode::Text, Some(_)) => Err(UsageError::Outputs {
                flag: "--keylogfile",
                problem: "it belongs to -m keylog".to_owned(),
                instead: "add -m keylog, or write -o keylog:FILE beside other outputs".to_owned(),
            }),
            (Mode::Packets | Mode::Text, None) => Ok(self),
        }
    }

    /// Returns the libraries with those that their secrets are derived in, if an output takes secrets.
    pub(crate) fn adapt(&self, libraries: Libraries) -> Result<Libraries, UsageError> {
        let module = self.tls_modules();
        if libraries.module != Modules::TLS || !module.have(Modules::SECRETS) {
            return Ok(libraries);
        }
        if libraries.kinds.contains(&Kind::Nspr) {
            return Err(UsageError::Unbuilt {
                what: "a key log of NSS".to_owned(),
                instead: "its secrets stay inside its token, which no function with a stable interface hands out; \
                          Firefox and other programs write one themselves if SSLKEYLOGFILE is set",
            });
        }
        Ok(Libraries {
            module,
            also: if libraries.kinds.contains(&Kind::Go) {
                &[]
            } else {
                &[Kind::LibCrypto, Kind::Nettle]
            },
            ..libraries
        })
    }
}

/// The file that the original writes.
fn default_file(kinds: &[Kind]) -> &'static str {
    match kinds {
        [Kind::Go, ..] => "ecapture_gotls_key.log",
        [Kind::GnuTls, ..] => "ecapture_gnutls_key.log",
        _ => "ecapture_openssl_key.log",
    }
}
