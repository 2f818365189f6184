//! The statements that database servers execute.

mod delivery;
mod mysql;
mod postgres;
mod statement;

use ecapture_ebpf::limits::LEAST_PAYLOAD;
use ecapture_ebpf::sql::STEP_EXIT;

use super::filter::stopped;
use delivery::send;
use statement::Statement;

/// A thread has ended, and with it its statement, and the connection of a process of PostgreSQL.
#[inline(always)]
pub(super) fn ended(pid_tgid: u64) {
    if let Some(statement) = Statement::known(pid_tgid) {
        if !stopped() {
            send::<LEAST_PAYLOAD>(&statement.header(pid_tgid, STEP_EXIT), 0, 0);
        }
        Statement::forget(pid_tgid);
    }
}
