//! Recognizes functions of rustls by their mangled names: the legacy form (`_ZN…17h<hash>E`) and v0
//! (RFC 2603, `_R…`). Names of other functions are turned down by their first bytes.

use memchr::memmem;

/// A function of rustls that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RustFunction {
    /// `rustls::common_state::CommonState::send_appdata_encrypt`
    Encrypt,
    /// `rustls::common_state::CommonState::take_received_plaintext`
    Received,
    /// `rustls::vecbuf::ChunkVecBuffer::write_to`
    Send,
    /// `<rustls::…::ExpectTraffic as rustls::common_state::State<…>>::handle`, which takes what comes
    /// when the handshake is over. One for each version of TLS and each side.
    Traffic,
    /// `core::ptr::drop_in_place::<rustls::common_state::CommonState>`; there may be several
    /// copies.
    Drop,
    /// Any method of `rustls::msgs::message::outbound::OutboundChunks`, a type that came with 0.23.
    Chunks,
    /// Anything else of rustls.
    Other,
}

use RustFunction::{Chunks, Drop, Encrypt, Other, Received, Send, Traffic};

/// Module, then type and method, as both forms of mangling have them.
const METHODS: [(&[u8], &[u8], RustFunction); 3] = [
    (b"12common_state", b"11CommonState20send_appdata_encrypt", Encrypt),
    (
        b"12common_state",
        b"11CommonState23take_received_plaintext",
        Received,
    ),
    (b"6vecbuf", b"14ChunkVecBuffer8write_to", Send),
];

/// Bytes of the hash in a legacy name, with what announces and ends it.
const HASH: &[u8] = b"17h";
const HASH_DIGITS: usize = 16;

/// Which function of rustls has this mangled name, if it is one of that crate.
pub(crate) fn recognize(name: &[u8]) -> Option<RustFunction> {
    if let Some(path) = name.strip_prefix(b"_ZN") {
        legacy(without_suffix(path))
    } else if let Some(path) = name.strip_prefix(b"_R") {
        v0(without_suffix(path))
    } else {
        None
    }
}

/// ThinLTO adds `.llvm.` and a number to a function that it makes visible to other modules.
fn without_suffix(name: &[u8]) -> &[u8] {
    match memmem::find(name, b".llvm.") {
        Some(end) => &name[..end],
        None => name,
    }
}

fn legacy(path: &[u8]) -> Option<RustFunction> {
    if let Some(path) = path.strip_prefix(b"6rustls") {
        let path = without_hash(path)?;
        let method = METHODS
            .into_iter()
            .find(|(module, method, _)| path.strip_prefix(*module).is_some_and(|rest| rest == *method));
        let is_chunks = path.starts_with(b"4msgs7message8outbound14OutboundChunks");
        return Some(match method {
            Some((.., function)) => function,
            None if is_chunks => Chunks,
            None => Other,
        });
    }
    let has = |part: &[u8]| memmem::find(path, part).is_some();
    if has(b"_$LT$rustls..") && has(b"..ExpectTraffic$u20$as$u20$rustls..common_state..State$LT$") {
        return Some(if without_hash(path)?.ends_with(b"6handle") {
            Traffic
        } else {
            Other
        });
    }
    let path = path.strip_prefix(b"4core3ptr")?;
    let dropped = memmem::find(path, b"drop_in_place$LT$")?;
    (without_hash(&path[dropped..])? == b"drop_in_place$LT$rustls..common_state..CommonState$GT$")
        .then_some(Drop)
}

/// A legacy path without the hash at its end, when it ends with one.
fn without_hash(path: &[u8]) -> Option<&[u8]> {
    let path = path.strip_suffix(b"E")?;
    let (path, digits) = path.split_at_checked(path.len().checked_sub(HASH_DIGITS)?)?;
    let is_hash = digits.iter().all(u8::is_ascii_hexdigit);
    path.strip_suffix(HASH).filter(|_| is_hash)
}

/// A path of v0 names its crate once, later by a reference back; types and methods are at its end
/// in the order of the source.
fn v0(path: &[u8]) -> Option<RustFunction> {
    let krate = memmem::find(path, b"_6rustls")?;
    let inside = &path[krate + b"_6rustls".len()..];
    let has = |part: &[u8]| memmem::find(inside, part).is_some();
    // An inherent method: `NvM`, the place of the `impl`, its type, the method.
    if path.starts_with(b"NvM") {
        let method = METHODS
            .into_iter()
            .find(|(module, method, _)| inside.starts_with(module) && inside.ends_with(method));
        return Some(match method {
            Some((.., function)) => function,
            None if has(b"14OutboundChunks") => Chunks,
            None => Other,
        });
    }
    // A method of a trait's `impl`: `NvX`, the place of the `impl`, its type, the trait, the method.
    if path.starts_with(b"NvX") {
        let is_traffic = has(b"13ExpectTraffic") && has(b"5State") && inside.ends_with(b"E6handle");
        return Some(if is_traffic { Traffic } else { Other });
    }
    let is_drop = path.starts_with(b"INvNt") && memmem::find(path, b"4core3ptr13drop_in_placeNt").is_some();
    let is_state = inside
        .strip_prefix(b"12common_state11CommonState")
        .is_some_and(|rest| rest.starts_with(b"E"));
    if is_drop {
        is_state.then_some(Drop)
    } else {
        Some(Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognized(name: &str) -> Option<RustFunction> {
        recognize(name.as_bytes())
    }

    #[test]
    fn legacy_names_are_recognized() {
        let names = [
            (
                "_ZN6rustls12common_state11CommonState20send_appdata_encrypt17hf99e248a5a66d3beE",
                Encrypt,
            ),
            (
                "_ZN6rustls12common_state11CommonState20send_appdata_encrypt17h501b65338ea6f048E.llvm.1431332642208294657",
                Encrypt,
            ),
            (
                "_ZN6rustls12common_state11CommonState23take_received_plaintext17h9b3dbaacfdb0c6f0E",
                Received,
            ),
            (
                "_ZN6rustls6vecbuf14ChunkVecBuffer8write_to17h87ee2134c9296c42E",
                Send,
            ),
            (
                "_ZN141_$LT$rustls..client..tls13..ExpectTraffic$u20$as$u20$rustls..common_state..State$LT$rustls..client..client_conn..ClientConnectionData$GT$$GT$6handle17h41aef89a74744a05E",
                Traffic,
            ),
            (
                "_ZN4core3ptr54drop_in_place$LT$rustls..common_state..CommonState$GT$17ha0865c58a8bfa051E",
                Drop,
            ),
            (
                "_ZN6rustls4msgs7message8outbound14OutboundChunks3len17h0123456789abcdefE",
                Chunks,
            ),
        ];
        for (name, function) in names {
            assert_eq!(recognized(name), Some(function), "{name}");
        }
    }

    #[test]
    fn names_of_v0_are_recognized() {
        let names = [
            (
                "_RNvMNtCs4tIhfbX69zJ_6rustls12common_stateNtB2_11CommonState20send_appdata_encrypt.llvm.16393417357710083329",
                Encrypt,
            ),
            (
                "_RNvMNtCs4tIhfbX69zJ_6rustls12common_stateNtB2_11CommonState23take_received_plaintext",
                Received,
            ),
            (
                "_RNvMs_NtCs4tIhfbX69zJ_6rustls6vecbufNtB4_14ChunkVecBuffer8write_to",
                Send,
            ),
            (
                "_RNvXs5_NtNtCs4tIhfbX69zJ_6rustls6client5tls13NtB5_13ExpectTrafficINtNtB9_12common_state5StateNtNtB7_11client_conn20ClientConnectionDataE6handle",
                Traffic,
            ),
            (
                "_RINvNtCsgEmfK2I1SDS_4core3ptr13drop_in_placeNtNtCs4tIhfbX69zJ_6rustls12common_state11CommonStateECsiqnKdFTMCEs_11blockclient",
                Drop,
            ),
            (
                "_RNvMs_NtNtNtCs4tIhfbX69zJ_6rustls4msgs7message8outboundNtB4_14OutboundChunks3new",
                Chunks,
            ),
        ];
        for (name, function) in names {
            assert_eq!(recognized(name), Some(function), "{name}");
        }
    }

    #[test]
    fn others_of_rustls_are_only_that() {
        let others = [
            "_ZN6rustls12common_state11CommonState19send_some_plaintext17h267c9650e905377aE",
            "_ZN6rustls6server11server_conn14EarlyDataState23take_received_plaintext17h3fc97a2e3a4e9d3cE",
            "_ZN6rustls6vecbuf14ChunkVecBuffer8write_to28_$u7b$$u7b$closure$u7d$$u7d$17h87ee2134c9296c42E",
            "_ZN141_$LT$rustls..client..tls13..ExpectTraffic$u20$as$u20$rustls..common_state..State$LT$rustls..client..client_conn..ClientConnectionData$GT$$GT$10into_owned17h41aef89a74744a05E",
            "_RNvNvMs_NtCs4tIhfbX69zJ_6rustls6vecbufNtB4_14ChunkVecBuffer8write_to",
        ];
        for name in others {
            assert_eq!(recognized(name), Some(Other), "{name}");
        }
    }

    #[test]
    fn other_names_are_not_recognized() {
        let strangers = [
            "SSL_read",
            "_ZN3foo12common_state11CommonState20send_appdata_encrypt17hf99e248a5a66d3beE",
            "_ZN6rustls12common_state11CommonState20send_appdata_encryptEv",
            "_ZN4core3ptr40drop_in_place$LT$alloc..string..String$GT$17h0123456789abcdefE",
            "_RNvCs4tIhfbX69zJ_3foo3bar",
            "_ZN",
            "_R",
            "",
        ];
        for name in strangers {
            assert_eq!(recognized(name), None, "{name}");
        }
    }
}
