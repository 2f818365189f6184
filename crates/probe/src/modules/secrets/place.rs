//! Where a library keeps the client's random, as its own getter shows.

use ecapture_ebpf::secret::RandomPlace;

use crate::file::elf::Image;
use crate::plan::Refusal;
use crate::plan::rules::{self, Getter};

/// The getters, and how each returns the random.
const KNOWN: [(&str, Getter); 2] = [
    ("SSL_get_client_random", Getter::Copies),
    ("gnutls_session_get_random", Getter::Points),
];

pub(super) const GETTERS: &[&str] = &[KNOWN[0].0, KNOWN[1].0];

/// Returns the place as the programs know it; 0 if the file has no getter that can be understood.
pub(super) fn random(image: &Image) -> u32 {
    for (name, getter) in KNOWN {
        match of(image, name, getter) {
            Ok(place) => return place.encode(),
            Err(Refusal::Missing) => {}
            Err(refusal) => tracing::debug!(
                file = %image.path().display(),
                "secrets of TLS 1.3 are not captured here: {name}: {refusal}"
            ),
        }
    }
    0
}

fn of(image: &Image, name: &str, getter: Getter) -> Result<RandomPlace, Refusal> {
    let function = image.function(name).ok_or(Refusal::Missing)?;
    let field = rules::field(image, function, getter)?;
    Ok(RandomPlace {
        pointer: field.pointer,
        offset: field.offset,
    })
}
