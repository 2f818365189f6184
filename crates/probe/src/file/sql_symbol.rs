//! Functions of MariaDB and MySQL whose mangled names differ between versions.

/// What `dispatch_command` is called here, if `name` is one of its manglings: those of MariaDB and of MySQL up to 5.6
/// begin with the command, those of MySQL from 5.7 on with the `THD`. Whatever parameters follow does not matter.
pub(crate) fn canonical(name: &[u8]) -> Option<&'static str> {
    let parameters = name.strip_prefix(b"_Z16dispatch_command")?;
    if parameters.starts_with(b"19enum_server_commandP3THDPc") {
        Some("dispatch_command(enum_server_command, THD *, …)")
    } else if parameters.starts_with(b"P3THDPK8COM_DATA19enum_server_command") {
        Some("dispatch_command(THD *, COM_DATA *, …)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manglings_of_all_versions_are_known() {
        for (name, is_data) in [
            // MariaDB 10.6 and later, 10.5, MySQL 5.6; MySQL 5.7 and later.
            (&b"_Z16dispatch_command19enum_server_commandP3THDPcjb"[..], false),
            (b"_Z16dispatch_command19enum_server_commandP3THDPcjbb", false),
            (b"_Z16dispatch_command19enum_server_commandP3THDPcj", false),
            (b"_Z16dispatch_commandP3THDPK8COM_DATA19enum_server_command", true),
        ] {
            assert_eq!(canonical(name).unwrap().contains("COM_DATA"), is_data);
        }
        assert_eq!(canonical(b"_Z16dispatch_commandP3THD"), None);
        assert_eq!(canonical(b"dispatch_command"), None);
    }
}
