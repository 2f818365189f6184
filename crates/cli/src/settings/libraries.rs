//! Which libraries and programs are captured.

use std::path::PathBuf;

use ecapture_probe::{Kind, Modules, NamedFunction};

use crate::args::{BashFiles, GnutlsArgs, GotlsArgs, MysqldArgs, NsprArgs, PostgresArgs, TlsArgs, ZshFiles};

/// Which libraries and programs of one kind of capture are captured.
#[derive(Debug, Clone)]
pub(crate) struct Libraries {
    /// The kind of capture.
    pub(crate) module: Modules,
    /// Those named; empty means all that can be found.
    pub(crate) files: Vec<PathBuf>,
    /// A function of these files that the user names.
    pub(crate) function: Option<NamedFunction>,
    /// Only these kinds; empty means all.
    pub(crate) kinds: &'static [Kind],
    /// Files with these are captured beside those named, which are of no use without them.
    pub(crate) also: &'static [Kind],
    /// What the files are, for a message.
    pub(crate) what: &'static str,
    /// The flag that names a file.
    pub(crate) flag: &'static str,
    /// The file that it names, for messages.
    pub(crate) example: &'static str,
}

impl Libraries {
    /// Those of TLS.
    pub(super) fn new(
        (flag, example): (&'static str, &'static str),
        files: &[PathBuf],
        kinds: &'static [Kind],
    ) -> Self {
        Self {
            module: Modules::TLS,
            files: files.to_vec(),
            function: None,
            kinds,
            also: &[],
            what: "TLS library",
            flag,
            example,
        }
    }

    /// With a function that the user names, if there is one: of the files, or of the one that the original takes.
    fn with_function(mut self, function: NamedFunction, default_file: &str) -> Self {
        let symbol = function.symbol.filter(|symbol| !symbol.is_empty());
        if symbol.is_none() && function.offset.is_none() {
            return self;
        }
        if self.files.is_empty() {
            self.files.push(default_file.into());
        }
        self.function = Some(NamedFunction { symbol, ..function });
        self
    }

    /// Returns true if all that can be found is wanted.
    pub(crate) fn is_all(&self) -> bool {
        self.files.is_empty() && self.kinds.is_empty()
    }

    /// The kinds, also where all of the kind of capture are meant.
    pub(crate) fn all_kinds(&self) -> Vec<Kind> {
        match self.kinds {
            [] => self.module.kinds(),
            kinds => kinds.to_vec(),
        }
    }

    /// Returns true if a file with functions of these kinds is wanted.
    pub(crate) fn want(&self, kinds: &[Kind]) -> bool {
        let wanted = self.all_kinds();
        kinds.iter().any(|kind| wanted.contains(kind))
    }
}

pub(super) const LIBSSL: (&str, &str) = (
    "--libssl",
    "a TLS library such as libssl.so.3, or of a program with TLS linked into it",
);

impl From<&TlsArgs> for Libraries {
    fn from(arguments: &TlsArgs) -> Self {
        Self::new(LIBSSL, &arguments.libssl, &[])
    }
}

impl From<&GotlsArgs> for Libraries {
    fn from(arguments: &GotlsArgs) -> Self {
        let flag = ("--elfpath", "a Go program");
        Self::new(flag, std::slice::from_ref(&arguments.elfpath), &[Kind::Go])
    }
}

impl From<&GnutlsArgs> for Libraries {
    fn from(arguments: &GnutlsArgs) -> Self {
        let flag = ("--gnutls", "a GnuTLS library, such as libgnutls.so.30");
        Self::new(flag, &arguments.gnutls, &[Kind::GnuTls, Kind::Nettle])
    }
}

impl From<&NsprArgs> for Libraries {
    fn from(arguments: &NsprArgs) -> Self {
        let flag = ("--nspr", "the library libnspr4.so");
        Self {
            // NSPR alone does not show which of its descriptors are TLS.
            also: &[Kind::Nss],
            ..Self::new(flag, &arguments.nspr, &[Kind::Nspr, Kind::Nss])
        }
    }
}

impl From<&BashFiles> for Libraries {
    fn from(arguments: &BashFiles) -> Self {
        let files = [arguments.bash.as_slice(), &arguments.readlineso].concat();
        let also: &[Kind] = match (arguments.bash.as_slice(), arguments.readlineso.as_slice()) {
            ([], [_, ..]) => &[Kind::Bash],
            ([_, ..], []) => &[Kind::Readline],
            _ => &[],
        };
        let flag = if arguments.bash.is_empty() && !files.is_empty() {
            ("--readlineso", "a libreadline.so that a bash uses")
        } else {
            ("--bash", "a bash")
        };
        Self {
            module: module("bash"),
            also,
            what: "bash",
            ..Self::new(flag, &files, &[Kind::Bash, Kind::Readline])
        }
    }
}

impl From<&ZshFiles> for Libraries {
    fn from(arguments: &ZshFiles) -> Self {
        Self {
            module: module("zsh"),
            what: "zsh",
            ..Self::new(("--zsh", "a zsh"), &arguments.zsh, &[Kind::Zsh])
        }
    }
}

/// Those of MariaDB and MySQL.
pub(super) fn of_mysqld(files: &[PathBuf]) -> Libraries {
    let flag = (
        "--mysqld",
        "MariaDB's or MySQL's server, such as /usr/sbin/mariadbd, and with --funcname or --offset that of its function \
         dispatch_command if it has another name or none",
    );
    Libraries {
        module: module("mysqld"),
        what: "server of MariaDB or MySQL",
        ..Libraries::new(flag, files, &[Kind::MariaDb])
    }
}

/// Those of PostgreSQL.
pub(super) fn of_postgres(files: &[PathBuf]) -> Libraries {
    let server = "PostgreSQL's server, such as /usr/lib/postgresql/15/bin/postgres, and with --funcname a function \
                  whose first parameter is the text of a statement if it does not have the usual names";
    Libraries {
        module: module("postgres"),
        what: "server of PostgreSQL",
        ..Libraries::new(("--postgres", server), files, &[Kind::Postgres])
    }
}

impl From<&MysqldArgs> for Libraries {
    fn from(arguments: &MysqldArgs) -> Self {
        let function = NamedFunction {
            symbol: arguments.funcname.clone(),
            offset: arguments.offset.filter(|offset| *offset != 0),
        };
        of_mysqld(&arguments.mysqld).with_function(function, "/usr/sbin/mariadbd")
    }
}

impl From<&PostgresArgs> for Libraries {
    fn from(arguments: &PostgresArgs) -> Self {
        let function = NamedFunction {
            symbol: arguments.funcname.clone(),
            offset: None,
        };
        of_postgres(&arguments.postgres).with_function(function, "/usr/bin/postgres")
    }
}

fn module(name: &str) -> Modules {
    Modules::named(name).expect("the table of modules has it")
}
