//! The dynamic loader's cache, `/etc/ld.so.cache` (glibc, `elf/dl-cache.h`, new format).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::limits;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;

/// Paths of the libraries whose name begins with `prefix`, in the cache's order.
pub(crate) fn libraries(cache: &[u8], prefix: &str) -> Vec<PathBuf> {
    let Some(start) = cache.windows(MAGIC.len()).position(|window| window == MAGIC) else {
        return Vec::new();
    };
    // The strings' offsets count from the beginning of the new format.
    let cache = &cache[start..];
    let count = word(cache, MAGIC.len()).unwrap_or(0) as usize;
    let entries = cache
        .get(HEADER_BYTES..)
        .unwrap_or_default()
        .chunks_exact(ENTRY_BYTES);
    let paths = entries.take(count).filter_map(|entry| {
        let name = text(cache, word(entry, 4)?)?;
        name.starts_with(prefix.as_bytes())
            .then(|| text(cache, word(entry, 8)?).map(|path| PathBuf::from(OsStr::from_bytes(path))))?
    });
    paths.collect()
}

fn word(bytes: &[u8], position: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(position..)?.first_chunk()?))
}

/// A path or name, which need not be UTF-8, without the zero byte at its end.
fn text(bytes: &[u8], position: u32) -> Option<&[u8]> {
    let rest = bytes.get(position as usize..)?;
    let rest = &rest[..rest.len().min(limits::NAME_BYTES)];
    memchr::memchr(0, rest).map(|end| &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let strings = b"libssl.so.3\0/lib/libssl.so.3\0libz.so.1\0/lib/libz.so.1\0";
        let base = u32::try_from(HEADER_BYTES + 2 * ENTRY_BYTES).unwrap();
        let mut bytes = b"ld.so-1.7.0\0 old format \0".to_vec();
        bytes.extend(MAGIC);
        bytes.extend(2u32.to_ne_bytes());
        bytes.extend(u32::try_from(strings.len()).unwrap().to_ne_bytes());
        bytes.extend([0; 20]);
        for (name, path) in [(0, 12), (29, 39)] {
            for field in [1, base + name, base + path, 0, 0, 0] {
                bytes.extend(field.to_ne_bytes());
            }
        }
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn libraries_are_found_by_the_beginning_of_their_name() {
        assert_eq!(
            libraries(&sample(), "libssl.so"),
            [PathBuf::from("/lib/libssl.so.3")]
        );
        assert_eq!(libraries(&sample(), "libz"), [PathBuf::from("/lib/libz.so.1")]);
        assert!(libraries(&sample(), "libgnutls").is_empty());
    }

    #[test]
    fn a_cut_cache_gives_fewer_libraries() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(libraries(&bytes[..length], "libssl").len() <= 1);
        }
    }
}
