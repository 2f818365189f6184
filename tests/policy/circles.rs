//! The modules of each crate use one another in one direction.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{CRATES, Source, production};

/// A module by its path.
type Module = Vec<String>;
/// Which modules each module uses.
type Graph = BTreeMap<Module, BTreeSet<Module>>;

/// Circles that stay, each within these modules of a crate.
const ALLOWED: &[(&str, &[&str], &str)] = &[
    (
        "protocols",
        &["detect", "http1", "http2", "websocket"],
        "the table of protocols names what it lists; a protocol hands over to the next through the table",
    ),
    (
        "protocols",
        &[
            "http1::awaiting",
            "http1::decoder",
            "http1::exchanges",
            "http1::heads",
            "http1::messages",
            "http1::state",
            "http1::stream",
        ],
        "one state machine in several files",
    ),
    (
        "protocols",
        &["exchange", "message"],
        "a message belongs to an exchange, and a response brings its request along",
    ),
    (
        "protocols",
        &["http1::head", "http1::normal"],
        "the same parser for the usual heads and for all others",
    ),
    (
        "protocols",
        &["pcapng::classic", "pcapng::read"],
        "one reader for both formats of captures",
    ),
    (
        "probe",
        &[
            "config", "filters", "find", "handle", "host", "kernel", "ring", "tally",
        ],
        "what is found, attached and read names the parts of one capture",
    ),
    (
        "probe",
        &["config", "find::discovery", "find::facts", "handle"],
        "what is found is observed by whoever configured the capture",
    ),
    (
        "probe",
        &["host::kernel", "kernel::loading"],
        "what the kernel can is tried by loading a program",
    ),
    (
        "probe",
        &["file::elf", "file::go_table"],
        "Go's table of functions is a section of the file",
    ),
    (
        "probe",
        &[
            "find::discovery::files",
            "find::discovery::inspection",
            "find::discovery::watch",
        ],
        "the threads of discovery hand files to one another",
    ),
    (
        "ebpf",
        &[
            "programs::call",
            "programs::delivery",
            "programs::identity",
            "programs::lateness",
            "programs::maps",
            "programs::pressure",
            "programs::socket",
            "programs::thread",
        ],
        "maps have the layouts of what uses them",
    ),
];

fn graph(sources: &[Source]) -> Graph {
    let known: BTreeSet<Module> = sources.iter().map(Source::module).collect();
    let mut graph = Graph::new();
    for source in sources {
        let module = source.module();
        let used = graph.entry(module.clone()).or_default();
        for path in paths(&source.code()) {
            let Some(mut target) = absolute(&module, &path, &known) else {
                continue;
            };
            while !known.contains(&target) {
                target.pop();
            }
            // A module and those inside of it are one.
            if !target.starts_with(&module) && !module.starts_with(&target) {
                used.insert(target);
            }
        }
    }
    graph
}

/// The same by the crate's top-level modules.
fn top_level(graph: &Graph) -> Graph {
    let mut top = Graph::new();
    for (module, used) in graph {
        let Some(from) = module.first() else { continue };
        let entry = top.entry(vec![from.clone()]).or_default();
        let used = used.iter().filter_map(|target| target.first());
        entry.extend(used.filter(|to| *to != from).map(|to| vec![to.clone()]));
    }
    top
}

/// The paths of all `use` declarations in `code`, and other paths that begin with `crate` or `super`.
pub(super) fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut pieces = code.split("use ");
    rest.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (tree, behind) = piece.split_once(';').unwrap_or((piece, ""));
        expand(&[], tree, &mut found);
        rest.push_str(behind);
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for word in rest.split(|c| !is_word(c)) {
        if word.starts_with("crate::") || word.starts_with("super::") {
            found.push(segments(word));
        }
    }
    found
}

fn segments(path: &str) -> Vec<String> {
    let path = path.split(" as ").next().unwrap_or_default();
    path.split("::")
        .map(str::trim)
        .filter(|segment| !segment.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The paths of a use tree, as of `a::{b, c::{self, d}}`.
fn expand(prefix: &[String], tree: &str, found: &mut Vec<Vec<String>>) {
    let Some((before, group)) = tree.split_once('{') else {
        found.push([prefix, &segments(tree)].concat());
        return;
    };
    let prefix = [prefix, &segments(before)].concat();
    let group = group.rsplit_once('}').map_or(group, |(inside, _)| inside);
    let mut depth = 0;
    let parts = group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    for part in parts.filter(|part| !part.trim().is_empty()) {
        expand(&prefix, part, found);
    }
}

/// The module that `path` means in `module`; `None` for other crates.
fn absolute(module: &[String], path: &[String], known: &BTreeSet<Module>) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let supers = path.iter().take_while(|segment| *segment == "super").count();
            let outer = &module[..module.len().saturating_sub(supers)];
            Some([outer, &path[supers..]].concat())
        }
        _ => {
            let child = [module, std::slice::from_ref(first)].concat();
            known.contains(&child).then(|| [module, path].concat())
        }
    }
}

/// The largest sets of modules in which every module uses every other one, directly or over others.
fn circles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = graph
        .keys()
        .map(|module| (module, reachable(graph, module)))
        .collect();
    let mut circles = BTreeSet::new();
    for (&module, used) in &reached {
        let is_in = |other: &&&Module| reached.get(**other).is_some_and(|back| back.contains(module));
        let circle: BTreeSet<String> = used.iter().filter(is_in).map(|other| other.join("::")).collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reachable<'a>(graph: &'a Graph, from: &'a Module) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        let used = graph.get(module).into_iter().flatten();
        next.extend(used.filter(|target| reached.insert(*target)));
    }
    reached
}

fn forbidden(krate: &str, sources: &[Source]) -> Vec<String> {
    let graph = graph(sources);
    let found = [circles(&graph), circles(&top_level(&graph))].concat();
    let is_allowed = |circle: &BTreeSet<String>| {
        ALLOWED.iter().any(|(of, modules, _)| {
            *of == krate && circle.iter().all(|module| modules.contains(&module.as_str()))
        })
    };
    found
        .iter()
        .filter(|circle| !is_allowed(circle))
        .map(|circle| format!("{krate}: {circle:?}"))
        .collect()
}

#[test]
fn modules_use_one_another_in_one_direction() {
    let found: Vec<String> = CRATES
        .into_iter()
        .flat_map(|krate| forbidden(krate, &production(krate)))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_circle_is_found() {
    let changed = |file: &str, line: &str| {
        let mut sources = production("cli");
        let source = sources.iter_mut().find(|source| source.path.ends_with(file));
        source.expect("a file").text.insert_str(0, line);
        forbidden("cli", &sources)
    };
    assert_eq!(changed("report/late.rs", "// use crate::commands;\n"), [""; 0]);
    for line in [
        "use crate::commands::{self, replay};\n",
        "use crate::{exit, commands};\n",
        "use super::super::commands::dispatch;\n",
        "fn late() { crate::commands::dispatch() }\n",
    ] {
        let found = changed("report/late.rs", line).concat();
        assert!(
            found.contains("\"commands\"") && found.contains("\"report\""),
            "{line}: {found}"
        );
    }
    // What settings mean must not depend on what fails on purpose, which reads them.
    let found = changed("usage/error.rs", "use crate::settings::OutputSettings;\n").concat();
    assert!(
        found.contains("\"settings\"") && found.contains("\"usage\""),
        "{found}"
    );
}
