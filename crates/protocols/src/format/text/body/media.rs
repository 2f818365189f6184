//! Recognizes kinds of files by their first bytes.

/// First bytes and name, as `file` and the WHATWG MIME sniffing standard know them.
const SIGNATURES: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "PNG image"),
    (b"\xFF\xD8\xFF", "JPEG image"),
    (b"GIF87a", "GIF image"),
    (b"GIF89a", "GIF image"),
    (b"BM", "BMP image"),
    (b"\0\0\x01\0", "icon"),
    (b"%PDF-", "PDF document"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"PK\x05\x06", "ZIP archive"),
    (b"\x1F\x8B\x08", "gzip archive"),
    (b"BZh", "bzip2 archive"),
    (b"\xFD7zXZ\0", "xz archive"),
    (b"\x28\xB5\x2F\xFD", "Zstandard archive"),
    (b"7z\xBC\xAF\x27\x1C", "7-Zip archive"),
    (b"Rar!\x1A\x07", "RAR archive"),
    (b"\x7FELF", "ELF file"),
    (b"\0asm", "WebAssembly module"),
    (b"wOFF", "WOFF font"),
    (b"wOF2", "WOFF2 font"),
    (b"OggS\0", "Ogg media"),
    (b"ID3", "MP3 audio"),
    (b"fLaC", "FLAC audio"),
    (b"\x1A\x45\xDF\xA3", "Matroska media"),
];

/// Returns the kind of file that `data` is, by its first bytes.
pub(super) fn name(data: &[u8]) -> Option<&'static str> {
    match data {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("WebP image"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Some("WAVE audio"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some("ISO media"),
        _ if data.get(257..262) == Some(b"ustar") => Some("tar archive"),
        _ => SIGNATURES
            .iter()
            .find(|(first, _)| data.starts_with(first))
            .map(|(_, name)| *name),
    }
}

/// Returns a declared media type whose content is never shown as text or bytes, without its
/// parameters.
pub(super) fn declared(content_type: Option<&[u8]>) -> Option<&str> {
    let essence = content_type?.split(|&byte| byte == b';').next()?;
    let essence = str::from_utf8(essence).ok()?.trim();
    let class = essence.split('/').next()?.to_ascii_lowercase();
    matches!(class.as_str(), "audio" | "font" | "image" | "video").then_some(essence)
}
