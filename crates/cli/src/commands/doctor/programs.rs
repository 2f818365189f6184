//! Which kernel programs this kernel takes.

use ecapture_probe::{Error, Figures, ProgramCheck, Refused};
use serde_json::{Value, json};

/// Number of instructions at which the verifier gives up (`BPF_COMPLEXITY_LIMIT_INSNS`).
const MOST_INSTRUCTIONS: u64 = 1_000_000;
/// Maximum bytes of stack of a chain of calls (`MAX_BPF_STACK`).
const MOST_STACK: u64 = 512;

/// Rows of the host's table: one for all programs that load, one for each that does not. With `-d` one for
/// each program.
pub(super) fn rows(checks: &Result<Vec<ProgramCheck>, Error>) -> Vec<[String; 3]> {
    let row = |verdict: &str, what: &str, found: String| [verdict.to_owned(), what.to_owned(), found];
    let checks = match checks {
        Ok(checks) if checks.is_empty() => return Vec::new(),
        Ok(checks) => checks,
        Err(error) => return vec![row("PROBLEM", "kernel programs", error.to_string())],
    };
    let mut rows = vec![row("ok", "kernel programs", summary(checks))];
    for ProgramCheck { program, outcome } in checks {
        match outcome {
            Ok(Some(Figures { instructions, stack })) if tracing::enabled!(tracing::Level::DEBUG) => {
                let found = format!("{instructions} instructions verified, {stack} bytes of stack");
                rows.push(row("ok", program, found));
            }
            Ok(_) => {}
            Err(Refused { reason, lost, .. }) => rows.push(row(
                "PROBLEM",
                program,
                format!("this kernel refused it: {reason}; not captured: {lost}"),
            )),
        }
    }
    rows
}

fn summary(checks: &[ProgramCheck]) -> String {
    let loaded = checks.iter().filter_map(|check| check.outcome.as_ref().ok());
    let (count, all) = (loaded.clone().count(), checks.len());
    let figures = loaded.copied().flatten();
    let instructions = figures.clone().map(|figures| figures.instructions).max();
    let stack = figures.map(|figures| figures.stack).max();
    match instructions.zip(stack) {
        Some((instructions, stack)) => format!(
            "{count} of {all} load, with at most {instructions} of {MOST_INSTRUCTIONS} verifier instructions and {stack} of {MOST_STACK} bytes of stack"
        ),
        None => format!("{count} of {all} load"),
    }
}

/// One object for each program.
pub(super) fn json(checks: &Result<Vec<ProgramCheck>, Error>) -> Vec<Value> {
    let line = |program: Option<&str>, figures: Option<Figures>, reason: Option<&str>, lost: Option<&str>| {
        json!({
            "kind": "program",
            "name": program,
            "ok": reason.is_none(),
            "instructions": figures.map(|figures| figures.instructions),
        "stack": figures.map(|figures| figures.stack),
            "reason": reason,
            "lost": lost,
        })
    };
    match checks {
        Ok(checks) => checks
            .iter()
            .map(|ProgramCheck { program, outcome }| match outcome {
                Ok(figures) => line(Some(program), *figures, None, None),
                Err(Refused { reason, lost, .. }) => {
                    line(Some(program), None, Some(&reason.to_string()), Some(lost))
                }
            })
            .collect(),
        Err(error) => vec![line(None, None, Some(&error.to_string()), None)],
    }
}

#[cfg(test)]
mod tests {
    use ecapture_probe::ProgramError;

    use super::*;

    fn checks() -> Vec<ProgramCheck> {
        let check = |program, outcome| ProgramCheck { program, outcome };
        vec![
            check(
                "go_read",
                Ok(Some(Figures {
                    instructions: 300,
                    stack: 64,
                })),
            ),
            check(
                "go_return",
                Err(Refused {
                    program: "go_return",
                    reason: ProgramError::NoTracepoint,
                    lost: "Read".to_owned(),
                }),
            ),
        ]
    }

    #[test]
    fn a_refused_program_has_a_row_of_its_own() {
        let rows = rows(&Ok(checks()));
        assert_eq!(rows.len(), 2);
        assert!(
            rows[0][2].starts_with("1 of 2 load, with at most 300 of 1000000 verifier instructions"),
            "{rows:?}"
        );
        assert_eq!(
            rows[1],
            [
                "PROBLEM",
                "go_return",
                "this kernel refused it: this kernel has no such tracepoint; not captured: Read"
            ]
        );
    }

    #[test]
    fn every_program_has_an_object() {
        let lines = json(&Ok(checks()));
        assert_eq!(
            (&lines[0]["ok"], &lines[0]["instructions"]),
            (&json!(true), &json!(300))
        );
        assert_eq!(
            (&lines[1]["ok"], &lines[1]["lost"]),
            (&json!(false), &json!("Read"))
        );
    }
}
