//! Libraries and programs of x86-64 code; for that of arm64 there are tests of its rules alone.
#![cfg(target_arch = "x86_64")]

use std::io::Write;

use super::*;
use crate::modules::Modules;
use crate::modules::tls::rustls;

const BASE: u64 = 0x1000;
const STUB: u64 = 0x2000;
/// `push %r13; ret`
const INTERNAL: &[u8] = &[0x41, 0x55, 0xC3];

/// A function of a made-up library: code before the call, the callee, code after it.
#[derive(Clone)]
struct Code {
    name: &'static str,
    before: Vec<u8>,
    callee: Option<&'static str>,
    after: Vec<u8>,
}

fn code(name: &'static str, before: &[u8], callee: &'static str, after: &[u8]) -> Code {
    Code {
        name,
        before: before.to_vec(),
        callee: Some(callee),
        after: after.to_vec(),
    }
}

fn leaf(name: &'static str, bytes: &[u8]) -> Code {
    Code {
        name,
        before: bytes.to_vec(),
        callee: None,
        after: Vec::new(),
    }
}

/// `SSL_read` of Debian's OpenSSL 3.0 up to its call, without the stack protector.
const PLAIN_BEFORE: &[u8] = &[
    0x48, 0x83, 0xEC, 0x18, // sub    $0x18,%rsp
    0x31, 0xC0, // xor    %eax,%eax
    0x85, 0xD2, // test   %edx,%edx
    0x78, 0x16, // js     to the error
    0x48, 0x89, 0xE1, // mov    %rsp,%rcx
    0x48, 0x63, 0xD2, // movslq %edx,%rdx
];
const PLAIN_AFTER: &[u8] = &[
    0x85, 0xC0, // test   %eax,%eax
    0x7E, 0x03, // jle    over the next
    0x8B, 0x04, 0x24, // mov    (%rsp),%eax
    0x48, 0x83, 0xC4, 0x18, // add    $0x18,%rsp
    0xC3, // ret
    0xB8, 0xFF, 0xFF, 0xFF, 0xFF, // mov    $-1,%eax
    0xEB, 0xF4, // jmp    to the add
];
/// `SSL_read_ex` of Debian's OpenSSL 3.0.
const EXTENDED_BEFORE: &[u8] = &[0x48, 0x83, 0xEC, 0x08];
const EXTENDED_AFTER: &[u8] = &[
    0x31, 0xD2, 0x85, 0xC0, 0x0F, 0x48, 0xC2, 0x48, 0x83, 0xC4, 0x08, 0xC3,
];
/// The five-parameter form of OpenSSL 3.3: `xor %ecx,%ecx; mov %rsp,%r8` for `mov %rsp,%rcx`.
const PLAIN_BEFORE_FLAGS: &[u8] = &[
    0x48, 0x83, 0xEC, 0x18, 0x85, 0xD2, 0x78, 0x18, 0x31, 0xC9, 0x49, 0x89, 0xE0, 0x48, 0x63, 0xD2,
];

fn pair() -> Vec<Code> {
    vec![
        code("SSL_read", PLAIN_BEFORE, "internal", PLAIN_AFTER),
        code("SSL_read_ex", EXTENDED_BEFORE, "internal", EXTENDED_AFTER),
        leaf("internal", INTERNAL),
    ]
}

/// Writes the functions into an ELF file, 16 bytes aligned, `internal` ones without a symbol.
fn image(functions: &[Code]) -> Image {
    let length = |each: &Code| each.before.len() + each.after.len() + 5 * usize::from(each.callee.is_some());
    let mut address = BASE;
    let placed: Vec<_> = functions
        .iter()
        .map(|each| {
            let place = address;
            address += length(each).next_multiple_of(16) as u64;
            (place, each)
        })
        .collect();
    let address_of = |name: &str| match placed.iter().find(|(_, each)| each.name == name) {
        Some((address, _)) => *address,
        None => STUB,
    };
    let mut text = Vec::new();
    let mut symbols = vec![0; 24];
    let mut strings = vec![0];
    for (address, each) in &placed {
        text.resize(usize::try_from(address - BASE).unwrap(), 0x90);
        text.extend(&each.before);
        if let Some(callee) = each.callee {
            let next = BASE + text.len() as u64 + 5;
            let distance = i32::try_from(address_of(callee).cast_signed() - next.cast_signed());
            text.push(0xE8);
            text.extend(distance.unwrap().to_le_bytes());
        }
        text.extend(&each.after);
        if !each.name.starts_with("internal") {
            symbols.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
            symbols.extend([0x12, 0, 1, 0]);
            symbols.extend(address.to_le_bytes());
            symbols.extend((length(each) as u64).to_le_bytes());
            strings.extend(each.name.as_bytes());
            strings.push(0);
        }
    }
    elf(&text, &symbols, &strings)
}

fn elf(text: &[u8], symbols: &[u8], strings: &[u8]) -> Image {
    let names = b"\0.text\0.plt\0.dynsym\0.dynstr\0.shstrtab\0";
    let text_at = 0x78;
    let symbols_at = text_at + text.len() as u64;
    let strings_at = symbols_at + symbols.len() as u64;
    let names_at = strings_at + strings.len() as u64;
    let sections_at = names_at + names.len() as u64;
    let mut file = vec![0x7F, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    half(&mut file, 3);
    half(&mut file, 62);
    file.extend(1u32.to_le_bytes());
    for value in [0, 64, sections_at] {
        file.extend(value.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for value in [64, 56, 1, 64, 6, 5] {
        half(&mut file, value);
    }
    file.extend(1u32.to_le_bytes());
    file.extend(5u32.to_le_bytes());
    let size = text.len() as u64;
    for value in [text_at, BASE, BASE, size, size, 0x1000] {
        file.extend(value.to_le_bytes());
    }
    for part in [text, symbols, strings, names] {
        file.extend(part);
    }
    let sections: [[u64; 7]; 6] = [
        [0; 7],
        // Name, type, address, offset, size, link, entry size.
        [1, 1, BASE, text_at, size, 0, 0],
        [7, 1, STUB, text_at, 16, 0, 0],
        [12, 11, 0, symbols_at, symbols.len() as u64, 4, 24],
        [20, 3, 0, strings_at, strings.len() as u64, 0, 0],
        [28, 3, 0, names_at, names.len() as u64, 0, 0],
    ];
    for [name, kind, address, offset, size, link, entry] in sections {
        for word in [name, kind] {
            file.extend(u32::try_from(word).unwrap().to_le_bytes());
        }
        for value in [0, address, offset, size] {
            file.extend(value.to_le_bytes());
        }
        file.extend(u32::try_from(link).unwrap().to_le_bytes());
        file.extend(0u32.to_le_bytes());
        for value in [8, entry] {
            file.extend(value.to_le_bytes());
        }
    }
    let mut written = tempfile::NamedTempFile::new().unwrap();
    written.write_all(&file).unwrap();
    let library = crate::Library::open(written.path()).unwrap();
    Image::read(&library, &Modules::TLS.symbols()).unwrap()
}

fn point_of(image: &Image, symbol: &str) -> Point {
    Plan::of(image, Modules::TLS.families(), false)
        .points
        .into_iter()
        .find(|point| point.symbols.contains(&symbol))
        .unwrap()
}

fn assert_entry(functions: &[Code], reason: &str) {
    let point = point_of(&image(functions), "SSL_read");
    assert_eq!(
        (point.kind, point.entry),
        (PointKind::Entry, "ssl_read"),
        "{}",
        point.reason
    );
    assert_eq!(point.symbols, ["SSL_read"]);
    assert!(point.reason.to_string().contains(reason), "{}", point.reason);
}

#[test]
fn a_pair_leads_to_its_internal_function() {
    let image = image(&pair());
    let point = point_of(&image, "SSL_read");
    assert_eq!(point.kind, PointKind::Internal, "{}", point.reason);
    assert_eq!(point.symbols, ["SSL_read", "SSL_read_ex"]);
    assert_eq!(
        (point.entry, point.returns),
        ("ssl_read_ex", Returns::Probe("call_return"))
    );
    let plain = image.function("SSL_read").unwrap();
    let sizes = [plain.size, image.function("SSL_read_ex").unwrap().size];
    let internal = BASE + sizes.iter().map(|size| size.next_multiple_of(16)).sum::<u64>();
    assert_eq!(Some(point.offset), image.file_offset(internal));
}

#[test]
fn a_fifth_parameter_takes_the_fifth_form() {
    let functions = [
        code("SSL_write", PLAIN_BEFORE_FLAGS, "internal", PLAIN_AFTER),
        code("SSL_write_ex", EXTENDED_BEFORE, "internal", EXTENDED_AFTER),
        code("SSL_write_ex2", EXTENDED_BEFORE, "internal", EXTENDED_AFTER),
        leaf("internal", INTERNAL),
    ];
    let point = point_of(&image(&functions), "SSL_write");
    assert_eq!((point.kind, point.entry), (PointKind::Internal, "ssl_write_ex2"));
    assert_eq!(point.symbols, ["SSL_write", "SSL_write_ex", "SSL_write_ex2"]);
}

#[test]
fn a_pair_that_does_not_agree_is_probed_at_its_entries() {
    let mut functions = pair();
    functions.push(leaf("internal too", INTERNAL));
    functions[1].callee = Some("internal too");
    assert_entry(&functions, "SSL_read_ex does not call the same function");
}

#[test]
fn a_function_that_peeks_too_is_not_probed() {
    let mut functions = pair();
    functions.push(code("SSL_peek", PLAIN_BEFORE, "internal", PLAIN_AFTER));
    assert_entry(&functions, "SSL_peek calls the same function");
}

#[test]
fn an_internal_function_must_begin_with_push() {
    let mut functions = pair();
    functions[2] = leaf("internal", &[0x48, 0x83, 0xEC, 0x18, 0xC3]);
    assert_entry(&functions, "does not emulate");
}

#[test]
fn an_exported_function_is_not_internal() {
    let mut functions = pair();
    functions[2].name = "SSL_do_everything";
    functions[0].callee = Some("SSL_do_everything");
    functions[1].callee = Some("SSL_do_everything");
    assert_entry(&functions, "exported itself");
}

#[test]
fn parameters_must_arrive_as_they_were() {
    // mov %rdx,%rsi; mov (%rdi),%rdi; sub %eax,%edx (not known to the rules)
    for change in [&[0x48, 0x89, 0xD6][..], &[0x48, 0x8B, 0x3F], &[0x29, 0xC2]] {
        let mut functions = pair();
        functions[0].before.extend(change);
        // The error is further away now.
        functions[0].before[9] += u8::try_from(change.len()).unwrap();
        assert_entry(&functions, "the call");
    }
}

#[test]
fn the_length_must_be_what_is_returned() {
    let mut functions = pair();
    // mov 0x8(%rsp),%eax instead of (%rsp)
    functions[0]
        .after
        .splice(2..7, [0x7E, 0x04, 0x8B, 0x44, 0x24, 0x08]);
    assert_entry(&functions, "does not return the stored length");
}

#[test]
fn a_call_through_a_pointer_proves_nothing() {
    let mut functions = pair();
    // call *0x50(%rax)
    functions[1].after.splice(0..0, [0xFF, 0x50, 0x50]);
    assert_entry(&functions, "through a pointer");
}

#[test]
fn a_second_way_to_the_call_proves_nothing() {
    let mut functions = pair();
    // The last jump leads back before the call.
    *functions[0].after.last_mut().unwrap() = 0xE0;
    assert_entry(&functions, "more than one way");
}

#[test]
fn calls_of_other_libraries_do_not_count() {
    let mut functions = pair();
    // call to the stub: the distance from the end of this call, which is found by its place.
    let end = BASE + functions[0].before.len() as u64 + 5 + functions[0].after.len() as u64 + 5;
    let distance = i32::try_from(STUB - end).unwrap().to_le_bytes();
    functions[0].after.push(0xE8);
    functions[0].after.extend(distance);
    assert_eq!(point_of(&image(&functions), "SSL_read").kind, PointKind::Internal);
}

#[test]
fn without_the_extended_form_the_entry_is_probed() {
    assert_entry(&pair()[..1], "_ex form is not exported");
    let plan = Plan::of(&image(&pair()[..1]), Modules::TLS.families(), false);
    assert!(plan.refused.iter().any(|(symbol, _)| *symbol == "SSL_write"));
}

#[test]
fn an_entry_that_the_kernel_emulates_says_so() {
    assert_entry(
        &[leaf("SSL_read", INTERNAL)],
        "begins with an instruction that the kernel emulates",
    );
}

#[test]
fn the_marker_of_indirect_targets_is_left_out() {
    const MARKER: [u8; 4] = [0xF3, 0x0F, 0x1E, 0xFA];
    let mut functions = pair();
    for each in &mut functions {
        each.before.splice(0..0, MARKER);
    }
    let plain = point_of(&image(&pair()), "SSL_read");
    let marked = point_of(&image(&functions), "SSL_read");
    assert_eq!(marked.kind, PointKind::Internal, "{}", marked.reason);
    assert_eq!(marked.offset % 16, (plain.offset + 4) % 16);
}

#[test]
fn what_is_sent_from_files_is_counted_by_a_program_of_its_own() {
    let point = point_of(&image(&[leaf("SSL_sendfile", INTERNAL)]), "SSL_sendfile");
    assert_eq!(
        (point.entry, point.returns),
        ("ssl_sendfile", Returns::Probe("call_return"))
    );
    assert_eq!(Modules::TLS.brings("SSL_sendfile"), Some(Brings::Length));
    assert_eq!(Modules::TLS.brings("SSL_write"), Some(Brings::Content));
}

mod in_rust {
    use super::*;

    const ENCRYPT: &str = "_ZN6rustls12common_state11CommonState20send_appdata_encrypt17h0000000000000001E";
    const RECEIVED: &str =
        "_ZN6rustls12common_state11CommonState23take_received_plaintext17h0000000000000002E";
    const SEND: &str = "_ZN6rustls6vecbuf14ChunkVecBuffer8write_to17h0000000000000003E";
    const TRAFFIC: &str = "_ZN141_$LT$rustls..client..tls13..ExpectTraffic$u20$as$u20$rustls..common_state..State$LT$rustls..client..client_conn..ClientConnectionData$GT$$GT$6handle17h0000000000000004E";
    const DROP: &str =
        "_ZN4core3ptr54drop_in_place$LT$rustls..common_state..CommonState$GT$17h0000000000000005E";

    /// `mov (%rsi),%r11; mov 0x10(%rsi),%r13; mov 0x18(%rsi),%rdi; ret`
    const LOADS: &[u8] = &[
        0x4C, 0x8B, 0x1E, 0x4C, 0x8B, 0x6E, 0x10, 0x48, 0x8B, 0x7E, 0x18, 0xC3,
    ];
    const RETURN: &[u8] = &[0xC3];

    fn program() -> Vec<Code> {
        vec![
            leaf(ENCRYPT, LOADS),
            leaf(RECEIVED, RETURN),
            leaf(SEND, RETURN),
            code(TRAFFIC, &[], RECEIVED, RETURN),
            leaf(DROP, RETURN),
        ]
    }

    /// The program with one of its functions changed.
    fn but(changed: &Code) -> Vec<Code> {
        let others = program().into_iter().filter(|each| each.name != changed.name);
        others.chain([changed.clone()]).collect()
    }

    fn assert_refused(functions: &[Code], reason: &str) {
        let refusal = rustls::points(&image(functions)).unwrap_err();
        assert!(refusal.to_string().contains(reason), "{refusal}");
    }

    #[test]
    fn its_functions_are_probed_at_their_returns() {
        let image = image(&program());
        let points = rustls::points(&image).unwrap();
        let entries: Vec<_> = points.iter().map(|point| point.entry).collect();
        assert_eq!(
            entries,
            ["rustls_send", "rustls_encrypt", "rustls_received", "rustls_drop"]
        );
        let after_loads = points[1].offset + LOADS.len() as u64 - 1;
        assert_eq!(
            points[1].returns,
            Returns::Instructions("rustls_encrypted", vec![after_loads])
        );
        assert_eq!(Modules::TLS.kinds_in(&image), [Kind::Rustls]);
    }

    #[test]
    fn each_function_must_be_there_once() {
        for name in [ENCRYPT, RECEIVED, SEND] {
            let functions: Vec<_> = program().into_iter().filter(|each| each.name != name).collect();
            assert_refused(&functions, "not among its symbols");
        }
        let again = "_ZN6rustls6vecbuf14ChunkVecBuffer8write_to17h0000000000000006E";
        assert_refused(&but(&leaf(again, RETURN)), "several versions");
    }

    #[test]
    fn all_that_is_received_must_pass_the_function() {
        assert_refused(&but(&leaf(TRAFFIC, RETURN)), "was inlined");
    }

    #[test]
    fn bytes_must_be_where_rustls_0_23_has_them() {
        assert_refused(&but(&leaf(ENCRYPT, RETURN)), "not that of rustls 0.23");
        // `mov $0,%esi` before the loads
        let elsewhere = [&[0xBE, 0, 0, 0, 0], LOADS].concat();
        assert_refused(&but(&leaf(ENCRYPT, &elsewhere)), "not that of rustls 0.23");
    }

    #[test]
    fn a_function_that_may_be_left_unseen_is_not_probed() {
        // `jmp *%rax` before the `ret`
        let leaves = [&LOADS[..LOADS.len() - 1], &[0xFF, 0xE0, 0xC3]].concat();
        assert_refused(&but(&leaf(ENCRYPT, &leaves)), "branches through a pointer");
        assert_refused(&but(&leaf(SEND, &[0x90])), "never returns");
    }
}
