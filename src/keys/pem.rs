//! Finds the key in a PEM text (RFC 7468).

use base64ct::{Base64, Encoding as _};
use zeroize::Zeroizing;

use super::KeyError;
use super::key_error;
use super::structure::Structure;

/// A section of a PEM text, not yet decoded.
pub(super) struct Section<'a> {
    pub(super) structure: Structure,
    lines: Vec<&'a [u8]>,
}

/// Returns the only private key in the text; other sections are ignored.
pub(super) fn private_section(text: &[u8]) -> Result<Section<'_>, KeyError> {
    only(sections(text)?, Structure::is_private, "private", key_error::no_private_key)
}

/// Returns the only public key in the text, which must not contain a private key.
pub(super) fn public_section(text: &[u8]) -> Result<Section<'_>, KeyError> {
    let sections = sections(text)?;
    if sections.iter().any(|section| section.structure.is_private()) {
        return Err(key_error::private_for_public());
    }
    only(sections, Structure::is_public, "public", key_error::no_public_key)
}

fn only<'a>(
    sections: Vec<Section<'a>>,
    is_it: fn(Structure) -> bool,
    kind: &str,
    none: fn(&[Structure]) -> KeyError,
) -> Result<Section<'a>, KeyError> {
    let structures: Vec<Structure> = sections.iter().map(|section| section.structure).collect();
    let mut found = sections.into_iter().filter(|section| is_it(section.structure));
    match (found.next(), found.next()) {
        (Some(section), None) => Ok(section),
        (None, _) => Err(none(&structures)),
        (Some(_), Some(_)) => Err(key_error::several(kind)),
    }
}

/// Writes a private key in PKCS#8 as a PEM text (RFC 7468 §10), in lines of 64 characters (§2).
pub(super) fn private(pkcs8: &[u8]) -> Zeroizing<String> {
    const LINE: usize = 48; // bytes, which are 64 characters
    let lines = pkcs8.len().div_ceil(LINE);
    // With its final capacity: a text that grows would leave copies in memory.
    let mut text = Zeroizing::new(String::with_capacity(lines * 65 + 64));
    text.push_str("-----BEGIN PRIVATE KEY-----\n");
    for line in pkcs8.chunks(LINE) {
        let mut characters = Zeroizing::new([0; 64]);
        // The buffer has space for a whole line.
        text.push_str(Base64::encode(line, &mut *characters).unwrap_or_default());
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";

fn sections(text: &[u8]) -> Result<Vec<Section<'_>>, KeyError> {
    let mut lines = lines(text);
    let mut sections = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(label) = boundary(line, BEGIN) {
            sections.push(Section::read(label, &mut lines)?);
        }
    }
    Ok(sections)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii)
}

fn boundary<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(start)?.strip_suffix(b"-----")
}

impl<'a> Section<'a> {
    fn read(label: &'a [u8], lines: &mut impl Iterator<Item = &'a [u8]>) -> Result<Self, KeyError> {
        let mut body = Vec::new();
        for line in lines {
            if boundary(line, END) == Some(label) {
                return Ok(Self { structure: Structure::from_label(label), lines: body });
            }
            if line.starts_with(b"-----") {
                break;
            }
            body.push(line);
        }
        Err(KeyError::malformed(
            "a PEM section has no end line, or that of another section: the text may be cut, or its lines joined",
        ))
    }

    /// Returns whether it is encrypted in the old form, with the headers `Proc-Type` and `DEK-Info` (RFC 1421 §4.6).
    pub(super) fn has_headers(&self) -> bool {
        self.lines.iter().any(|line| line.contains(&b':'))
    }

    pub(super) fn der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.lines.iter().map(|line| line.len()).sum()));
        self.lines.iter().for_each(|line| text.extend_from_slice(line));
        // Decoded into a buffer of our own, so that it is wiped even if decoding fails half-way.
        let mut der = Zeroizing::new(vec![0; text.len()]);
        let length = Base64::decode(&**text, &mut der).map(<[u8]>::len);
        der.truncate(length.map_err(|_| KeyError::malformed("a PEM section is not base64; it may be cut or edited"))?);
        Ok(der)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{private as write, private_section, public_section};

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n";
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n****\n-----END CERTIFICATE-----\n";

    fn private(text: &str) -> Result<Vec<u8>, String> {
        let der = private_section(text.as_bytes()).and_then(|section| section.der());
        der.map(|der| der.to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_found_among_other_sections_and_text_with_any_line_ends() {
        for text in [
            KEY.to_owned(),
            KEY.replace('\n', "\r\n"),
            KEY.replace('\n', " \n  "),
            format!("Bag Attributes: x\n{CERTIFICATE}\n{KEY}{CERTIFICATE}"),
            KEY.replace("AQID", "AQ\nID"),
        ] {
            assert_eq!(private(&text).as_deref(), Ok(&[1, 2, 3][..]), "{text}");
        }
    }

    #[test]
    fn a_text_without_exactly_one_key_is_refused_and_the_error_says_how_to_fix_it() {
        for (text, fix) in [
            (String::new(), "openssl genpkey"),
            (CERTIFICATE.to_owned(), "certificate"),
            (KEY.replace("PRIVATE", "PUBLIC"), "public key"),
            (KEY.to_owned() + KEY, "one private key"),
            (KEY.replace("END PRIVATE", "END PUBLIC"), "cut"),
            (KEY.replace("-----END", "----END"), "cut"),
            (KEY.replace("AQID", "AQI"), "base64"),
            (KEY.replace("AQID", "AQ=="), ""),
            (KEY.replace('\n', ""), "joined"),
        ] {
            let answer = private(&text);
            assert!(answer.as_ref().map_or_else(|error| error.contains(fix), |_| fix.is_empty()), "{text} {answer:?}");
        }
    }

    #[test]
    fn a_text_with_a_private_key_is_refused_as_a_public_key() {
        let text = KEY.replace("PRIVATE", "PUBLIC");
        assert!(public_section(text.as_bytes()).is_ok());
        let refused = public_section([text.as_str(), KEY].concat().as_bytes()).err().unwrap();
        assert!(refused.to_string().contains("verifying_key"), "{refused}");
    }

    proptest! {
        #[test]
        fn a_written_key_is_read_back(der in prop::collection::vec(any::<u8>(), 1..300)) {
            let text = write(&der);
            prop_assert_eq!(private(&text), Ok(der));
            prop_assert!(text.lines().all(|line| line.len() <= 64));
        }

        #[test]
        fn the_reader_never_panics(text in "(-----(BEGIN|END) (EC )?PRIVATE KEY-----|\n|[A-Za-z0-9+/=: ]{0,9}){0,9}") {
            let _ = private(&text);
        }
    }
}
