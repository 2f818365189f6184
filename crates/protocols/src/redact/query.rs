//! Statements as they were captured.

use bytes::Bytes;

use super::{Dialect, Masked, Redaction, literals, message, passwords};
use crate::event::{SqlOutcome, SqlParameter, SqlQuery, SqlServer};

/// Masks the text of a statement, the values of its parameters, and what its error quotes of them.
pub fn query(query: &mut SqlQuery, redaction: Redaction) {
    let dialect = match query.server {
        SqlServer::MySql => Dialect::MySql,
        SqlServer::Postgres => Dialect::Postgres,
    };
    let masked = match redaction {
        Redaction::Nothing => return,
        Redaction::Passwords => passwords(&query.text, dialect),
        Redaction::Literals => literals(&query.text, dialect),
    };
    let all = redaction == Redaction::Literals;
    let Masked { text, parameters } = masked;
    if parameters {
        for parameter in &mut query.parameters {
            if *parameter != SqlParameter::Null {
                *parameter = SqlParameter::Masked;
                query.redacted = true;
            }
        }
    }
    if let SqlOutcome::Failed(error) = &mut query.outcome
        && (all || parameters || text.is_some())
        && let Some(shown) = message(&error.message)
    {
        error.message = Bytes::from(shown);
        query.redacted = true;
    }
    if let Some(text) = text {
        // Positions in the text are no longer those of the captured one.
        for missing in &mut query.missing {
            missing.at = missing.at.min(text.len() as u64);
        }
        query.text = Bytes::from(text);
        query.redacted = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SqlError;

    fn failed(text: &'static str) -> SqlQuery {
        SqlQuery {
            text: Bytes::from_static(text.as_bytes()),
            parameters: vec![SqlParameter::Text(Bytes::from_static(b"v")), SqlParameter::Null],
            outcome: SqlOutcome::Failed(SqlError {
                code: "1".into(),
                message: Bytes::from_static(b"near 'secret'"),
            }),
            ..SqlQuery::default()
        }
    }

    fn shown(text: &'static str, redaction: Redaction) -> (String, Vec<SqlParameter>, String, bool) {
        let mut failed = failed(text);
        query(&mut failed, redaction);
        let error = failed.outcome.error().unwrap();
        let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (
            string(&failed.text),
            failed.parameters.clone(),
            string(&error.message),
            failed.redacted,
        )
    }

    #[test]
    fn text_parameters_and_errors_are_masked_as_asked_for() {
        let value = SqlParameter::Text(Bytes::from_static(b"v"));
        let plain = vec![value, SqlParameter::Null];
        let masked = vec![SqlParameter::Masked, SqlParameter::Null];
        let text = "SET PASSWORD = 'secret'";
        let near = "near 'secret'".to_owned();
        assert_eq!(
            shown(text, Redaction::Nothing),
            (text.to_owned(), plain.clone(), near.clone(), false)
        );
        assert_eq!(
            shown(text, Redaction::Passwords),
            (
                "SET PASSWORD = ***".into(),
                plain.clone(),
                "near '***'".into(),
                true
            )
        );
        assert_eq!(
            shown("SELECT 1", Redaction::Passwords),
            ("SELECT 1".into(), plain, near, false)
        );
        assert_eq!(
            shown("SELECT 1", Redaction::Literals),
            ("SELECT ***".into(), masked, "near '***'".into(), true)
        );
    }
}
