//! When a certificate expires (RFC 5280 §4.1.2.5), for the metric that warns of it.

use std::time::Duration;

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};

/// Returns the end of the validity of a certificate in DER, as the time since 1970.
pub(crate) fn expiry(certificate: &[u8]) -> der::Result<Duration> {
    let certificate = elements(AnyRef::from_der(certificate)?)?;
    let fields = elements(nth(&certificate, 0)?)?;
    // The version is optional. The serial number, the algorithm and the issuer are before the validity.
    let has_version = nth(&fields, 0)?.tag() != Tag::Integer;
    let validity = elements(nth(&fields, 3 + usize::from(has_version))?)?;
    let end = nth(&validity, 1)?;
    match end.tag() {
        Tag::UtcTime => Ok(end.decode_as::<UtcTime>()?.to_unix_duration()),
        _ => Ok(end.decode_as::<GeneralizedTime>()?.to_unix_duration()),
    }
}

fn elements(of: AnyRef<'_>) -> der::Result<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(of.value())?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(reader.decode()?);
    }
    Ok(elements)
}

fn nth<'a>(elements: &[AnyRef<'a>], index: usize) -> der::Result<AnyRef<'a>> {
    elements.get(index).copied().ok_or_else(|| der::ErrorKind::Failed.into())
}
