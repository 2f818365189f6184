//! `ecapture verify`: whether lines of a chained file were changed, removed or put in.

use std::fs::File;
use std::io::{self, BufReader, Write as _};

use anyhow::{Context as _, Result};

use crate::args::VerifyArgs;
use crate::chain::Hash;
use crate::chain::check::{Checker, Fault};
use crate::exit::Exit;
use crate::usage::UsageError;

pub(crate) fn run(arguments: &VerifyArgs) -> Result<Exit> {
    let kept = arguments
        .last
        .as_deref()
        .map(|text| Hash::parse(text.as_bytes()).ok_or_else(|| wrong(text)))
        .transpose()?;
    let mut checker = Checker::new(arguments.partial);
    let mut name = String::new();
    for path in &arguments.files {
        name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        let fault = checker
            .file(BufReader::with_capacity(256 * 1024, file))
            .with_context(|| format!("cannot read {name}"))?;
        if let Some(fault) = fault {
            return report(&name, &fault);
        }
    }
    let fault = if checker.has_begun() {
        checker.end(kept)
    } else {
        Some(Fault::NoChain)
    };
    if let Some(fault) = fault {
        return report(&name, &fault);
    }
    let (last, lines) = checker.last().context("a chain has a last line")?;
    writeln!(
        io::stdout(),
        "no line was changed, removed or put in; line {lines} of the chain closes it, its hash is {last}"
    )?;
    Ok(Exit::Success)
}

fn report(file: &str, fault: &Fault) -> Result<Exit> {
    writeln!(io::stdout(), "{file}: {fault}")?;
    Ok(Exit::Failure)
}

fn wrong(text: &str) -> UsageError {
    UsageError::Value {
        flag: "--last",
        expected: "64 hexadecimal digits, as the run that wrote the file logged them at its end",
        observed: text.into(),
    }
}
