//! Programs that are captured for something other than TLS, such as shells: which there are on this host, and what
//! can be captured of each. Nothing is attached.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::file::elf::Image;
use crate::file::inode::Inode;
use crate::file::library::Located;
use crate::find::target::{installed_programs, plain_path};
use crate::host::kernel;
use crate::limits;
use crate::modules::Modules;
use crate::plan::{Family, Plan};
use crate::proc::{self, Program};

/// A program that is installed or runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFinding {
    /// The kind of capture, by its name.
    pub module: &'static str,
    /// Where it is, through `/proc/PID/root` in a container.
    pub file: PathBuf,
    /// The processes that run it.
    pub pids: Vec<u32>,
    /// The functions that would be captured.
    pub functions: Vec<&'static str>,
    /// Functions and variables that it does not have. What they tell is not known.
    pub missing: Vec<&'static str>,
    /// Why it would not be captured; then there are no functions.
    pub obstacle: Option<ProgramObstacle>,
}

/// Why a program cannot be captured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramObstacle {
    /// It has none of the functions.
    #[error("it has no symbol {}", .looked_for.join(" or "))]
    NoFunctions {
        /// Those that were looked for.
        looked_for: Vec<&'static str>,
        /// The user may name the function.
        may_be_named: bool,
    },
    /// The kernel is too old.
    #[error("this kernel has no bpf_loop")]
    NoLoop,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

impl ProgramObstacle {
    /// What helps, as half a sentence.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoFunctions {
                may_be_named: true, ..
            } => "give the function that executes statements: --funcname, for MariaDB also --offset",
            Self::NoFunctions { .. } => {
                "use a build whose symbols were not removed, such as the distribution's"
            }
            Self::NoLoop => "use Linux 5.17 or later",
            Self::Unreadable(_) => "run ecapture as root",
        }
    }
}

/// Those that are installed, or that these processes run; of all processes when there are none.
pub fn programs(pids: &[u32]) -> Vec<ProgramFinding> {
    let modules = Modules::ALL;
    let names = modules.names().filter_map(Modules::named);
    names
        .flat_map(|module| Programs::of(module, pids).findings)
        .collect()
}

struct Programs {
    module: Modules,
    by_file: HashMap<Inode, usize>,
    findings: Vec<ProgramFinding>,
}

impl Programs {
    fn of(module: Modules, pids: &[u32]) -> Self {
        let mut found = Self {
            module,
            by_file: HashMap::new(),
            findings: Vec::new(),
        };
        let names: Vec<_> = module.programs_by_name().collect();
        if names.is_empty() {
            return found;
        }
        if pids.is_empty() {
            for path in installed_programs(module) {
                found.add(path, None);
            }
        }
        let all = if pids.is_empty() {
            proc::pids()
        } else {
            pids.to_vec()
        };
        let is_one = |pid: &u32| {
            let program = Program::of(*pid).ok();
            let name = program
                .as_ref()
                .and_then(Program::name)
                .and_then(|name| name.to_str());
            name.is_some_and(|name| names.contains(&name))
        };
        for pid in all.into_iter().filter(is_one) {
            found.add(proc::executable(pid), Some(pid));
        }
        found
    }

    /// Adds a file, or a process that runs one.
    fn add(&mut self, path: PathBuf, pid: Option<u32>) {
        let Ok(located) = Located::at(&path) else { return };
        let known = self.by_file.get(&located.inode()).copied();
        let index = match known {
            Some(index) => index,
            None if self.findings.len() >= limits::PROGRAMS_EXAMINED => return,
            None => {
                self.by_file.insert(located.inode(), self.findings.len());
                self.findings.push(examined(self.module, &located, path));
                self.findings.len() - 1
            }
        };
        self.findings[index].pids.extend(pid);
    }
}

fn examined(module: Modules, located: &Located, path: PathBuf) -> ProgramFinding {
    let mut finding = ProgramFinding {
        module: module.names().next().unwrap_or_default(),
        file: plain_path(&path, located).unwrap_or_else(|| path.clone()),
        pids: Vec::new(),
        functions: Vec::new(),
        missing: Vec::new(),
        obstacle: None,
    };
    let opened = located.open(path).map_err(|error| error.to_string());
    let image =
        opened.and_then(|file| Image::of(&file, &module.symbols()).map_err(|error| error.to_string()));
    match image {
        Ok(_) if module.needing_loop().is_some() && !kernel::has_loop() => {
            finding.obstacle = Some(ProgramObstacle::NoLoop);
        }
        Err(reason) => finding.obstacle = Some(ProgramObstacle::Unreadable(reason)),
        Ok(image) if module.kinds_in(&image).is_empty() => {
            finding.obstacle = Some(ProgramObstacle::NoFunctions {
                looked_for: module.looked_for(),
                may_be_named: module.take_named_function(),
            });
        }
        Ok(image) => {
            let plan = Plan::of(&image, module.families(), false);
            finding.functions = plan
                .points
                .iter()
                .flat_map(|point| point.symbols.clone())
                .collect();
            let variables = module
                .families()
                .filter(|family| family.is_in(&image))
                .flat_map(Family::hooks)
                .flat_map(|hook| hook.variables.iter().copied());
            let absent = variables.filter(|name| image.variable(name).is_none());
            finding.missing = plan
                .refused
                .iter()
                .map(|(symbol, _)| *symbol)
                .chain(absent)
                .collect();
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_of_this_host_can_be_captured() {
        let found = programs(&[]);
        let shell = found.iter().find(|finding| finding.file.ends_with("bash"));
        let bash = shell.expect("bash is installed");
        assert_eq!((bash.module, &bash.obstacle), ("bash", &None));
        assert!(bash.functions.contains(&"pre_process_line"), "{bash:?}");
    }

    #[test]
    fn a_program_without_symbols_says_what_was_looked_for() {
        let path = PathBuf::from("/proc/self/exe");
        let module = Modules::named("zsh").unwrap();
        let finding = examined(module, &Located::at(&path).unwrap(), path);
        let obstacle = finding.obstacle.unwrap();
        assert_eq!(obstacle.to_string(), "it has no symbol zleentry");
        assert!(finding.functions.is_empty());
    }
}
