//! Signatures by an OpenPGP key (RFC 4880 and EdDSA as GnuPG has it): reads a private key in ASCII
//! armour and signs by it. The key stays in memory; nothing here runs GnuPG, writes or shows one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::signature::Signer as _;
use sha1::Sha1;
use sha2::{Digest as _, Sha512};
use ssh_key::HashAlg;
use ssh_key::private::Ed25519Keypair;

use super::keys::Rsa;
use crate::base::Secret;

const SIGNATURE: u8 = 2;
const SECRET_KEY: u8 = 5;
const SECRET_SUBKEY: u8 = 7;
const RSA: u8 = 1;
const RSA_SIGN: u8 = 3;
const EDDSA: u8 = 22;
/// SHA-512, as signatures name it.
const SHA512: u8 = 10;
/// The curve Ed25519, as GnuPG names it.
const ED25519: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];

/// A private key that can sign.
pub(super) struct PgpKey {
    algorithm: u8,
    created: u32,
    fingerprint: [u8; 20],
    signer: Signer,
}

enum Signer {
    Rsa(Box<Rsa>),
    Ed25519(Box<Ed25519Keypair>),
}

/// A key among the packets, and whether its signatures let it sign.
struct Found {
    key: Result<PgpKey, String>,
    primary: bool,
    may_sign: Option<bool>,
}

impl PgpKey {
    /// Reads a key; of several, the newest subkey that may sign, else the primary one. The error
    /// says what is wrong without showing anything of it.
    pub(super) fn parse(text: &Secret) -> Result<Self, String> {
        let bytes = dearmour(text.expose()).ok_or(
            "the OpenPGP key is no private key in ASCII armour: export it by `gpg --armor --export-secret-keys`",
        )?;
        let mut found: Vec<Found> = Vec::new();
        let mut rest = Reader(&bytes);
        while !rest.0.is_empty() {
            let (tag, body) = rest.packet().ok_or("the OpenPGP key is cut off")?;
            match tag {
                SECRET_KEY | SECRET_SUBKEY => found.push(Found {
                    key: Self::read(body),
                    primary: tag == SECRET_KEY,
                    may_sign: None,
                }),
                SIGNATURE => {
                    if let (Some(last), Some(flags)) = (found.last_mut(), key_flags(body)) {
                        last.may_sign = Some(flags & 2 != 0);
                    }
                }
                _ => {}
            }
        }
        let mut why = "the OpenPGP key has no part that can sign".to_owned();
        let (primary, subkeys): (Vec<_>, Vec<_>) = found.into_iter().partition(|key| key.primary);
        let subkeys = subkeys
            .into_iter()
            .rev()
            .filter(|key| key.may_sign == Some(true));
        let primary = primary
            .into_iter()
            .filter(|key| key.may_sign != Some(false));
        for candidate in subkeys.chain(primary) {
            match candidate.key {
                Ok(key) => return Ok(key),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// Reads the body of a packet of a private key.
    fn read(body: &[u8]) -> Result<Self, String> {
        let cut = "the OpenPGP key is cut off";
        let mut rest = Reader(body);
        if rest.byte().ok_or(cut)? != 4 {
            return Err("only OpenPGP keys of version 4 can be used".to_owned());
        }
        let created = u32::from_be_bytes(rest.take(4).ok_or(cut)?.try_into().map_err(|_| cut)?);
        let algorithm = rest.byte().ok_or(cut)?;
        let mut numbers = Vec::new();
        match algorithm {
            RSA | RSA_SIGN => {
                numbers.push(rest.number().ok_or(cut)?);
                numbers.push(rest.number().ok_or(cut)?);
            }
            EDDSA => {
                let length = rest.byte().ok_or(cut)?;
                if rest.take(usize::from(length)).ok_or(cut)? != ED25519 {
                    return Err("of OpenPGP's curves, only Ed25519 can be used".to_owned());
                }
                rest.number().ok_or(cut)?;
            }
            _ => {
                return Err(
                    "the OpenPGP key is of a kind that cannot be used: RSA and Ed25519 can"
                        .to_owned(),
                );
            }
        }
        let public = &body[..body.len() - rest.0.len()];
        match rest.byte().ok_or(cut)? {
            0 => {}
            254 | 255 => {
                return Err(
                    "the OpenPGP key has a passphrase, or its secret part is elsewhere: export one without"
                        .to_owned(),
                );
            }
            _ => return Err("the OpenPGP key has a passphrase: export one without".to_owned()),
        }
        let signer = match numbers.as_slice() {
            [n, e] => {
                let mut secret = || rest.number().ok_or(cut);
                let (d, p, q) = (secret()?, secret()?, secret()?);
                Signer::Rsa(Box::new(Rsa::new(n, e, d, [p, q])?))
            }
            _ => {
                let number = rest.number().ok_or(cut)?;
                let mut seed = [0; 32];
                let at = seed.len().checked_sub(number.len()).ok_or(cut)?;
                seed[at..].copy_from_slice(number);
                Signer::Ed25519(Box::new(Ed25519Keypair::from_seed(&seed)))
            }
        };
        let length = u16::try_from(public.len()).map_err(|_| cut)?;
        let mut hash = Sha1::new();
        hash.update([0x99]);
        hash.update(length.to_be_bytes());
        hash.update(public);
        Ok(Self {
            algorithm,
            created,
            fingerprint: hash.finalize().into(),
            signer,
        })
    }

    /// A detached signature in armour, at a time in seconds; not before the key was made, which
    /// nobody would believe.
    pub(super) fn sign(&self, content: &[u8], time: i64) -> Result<String, String> {
        let time = u32::try_from(time).unwrap_or(0).max(self.created);
        let mut hashed = vec![4, 0, self.algorithm, SHA512];
        let mut parts = vec![5, 2];
        parts.extend(time.to_be_bytes());
        parts.extend([22, 33, 4]);
        parts.extend(self.fingerprint);
        hashed.extend((parts.len() as u16).to_be_bytes());
        hashed.extend(parts);
        let mut data = content.to_vec();
        data.extend(&hashed);
        data.extend([4, 0xff]);
        data.extend((hashed.len() as u32).to_be_bytes());
        let digest = Sha512::digest(&data);

        let mut body = hashed;
        body.extend([0, 10, 9, 16]);
        body.extend(&self.fingerprint[12..]);
        body.extend(&digest[..2]);
        match &self.signer {
            Signer::Rsa(key) => number(&mut body, &key.sign(&data, HashAlg::Sha512)),
            Signer::Ed25519(key) => {
                let signature: ssh_key::Signature = key
                    .try_sign(&digest)
                    .map_err(|error| format!("the OpenPGP key cannot sign: {error}"))?;
                let (r, s) = signature.as_bytes().split_at(32);
                number(&mut body, r);
                number(&mut body, s);
            }
        }
        let mut packet = vec![0x80 | (SIGNATURE << 2) | 1];
        packet.extend((body.len() as u16).to_be_bytes());
        packet.extend(body);
        Ok(armour(&packet))
    }
}

/// Appends a number with its length in bits.
fn number(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = bytes
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(bytes.len());
    let bytes = &bytes[start..];
    let bits = bytes
        .first()
        .map_or(0, |first| bytes.len() * 8 - first.leading_zeros() as usize);
    out.extend((bits as u16).to_be_bytes());
    out.extend(bytes);
}

/// The flags that a signature gives to a key: what it may be used for.
fn key_flags(body: &[u8]) -> Option<u8> {
    let mut rest = Reader(body);
    let (version, kind) = (rest.byte()?, rest.byte()?);
    // Of a primary key by itself, or of a subkey.
    if version != 4 || !matches!(kind, 0x10..=0x13 | 0x18 | 0x1f) {
        return None;
    }
    rest.take(2)?;
    let length = u16::from_be_bytes(rest.take(2)?.try_into().ok()?);
    let mut parts = Reader(rest.take(usize::from(length))?);
    while !parts.0.is_empty() {
        let length = match parts.byte()? {
            short @ 0..=191 => usize::from(short),
            255 => u32::from_be_bytes(parts.take(4)?.try_into().ok()?) as usize,
            long => ((usize::from(long) - 192) << 8) + usize::from(parts.byte()?) + 192,
        };
        let part = parts.take(length)?;
        if part.first()? & 0x7f == 27 {
            return part.get(1).copied();
        }
    }
    None
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A number that is preceded by its length in bits.
    fn number(&mut self) -> Option<&'a [u8]> {
        let bits = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
        self.take(usize::from(bits).div_ceil(8))
    }

    /// A packet: its kind and its body.
    fn packet(&mut self) -> Option<(u8, &'a [u8])> {
        let head = self.byte()?;
        if head & 0x80 == 0 {
            return None;
        }
        let (tag, length) = if head & 0x40 == 0 {
            let length = match head & 3 {
                0 => usize::from(self.byte()?),
                1 => usize::from(u16::from_be_bytes(self.take(2)?.try_into().ok()?)),
                2 => u32::from_be_bytes(self.take(4)?.try_into().ok()?) as usize,
                _ => self.0.len(),
            };
            ((head >> 2) & 15, length)
        } else {
            let length = match self.byte()? {
                short @ 0..=191 => usize::from(short),
                long @ 192..=223 => {
                    ((usize::from(long) - 192) << 8) + usize::from(self.byte()?) + 192
                }
                255 => u32::from_be_bytes(self.take(4)?.try_into().ok()?) as usize,
                // Parts of unknown length are for messages, not for keys.
                _ => return None,
            };
            (head & 63, length)
        };
        Some((tag, self.take(length)?))
    }
}

fn dearmour(text: &str) -> Option<Vec<u8>> {
    let begin = "-----BEGIN PGP PRIVATE KEY BLOCK-----";
    let text = &text[text.find(begin)? + begin.len()..];
    let text = &text[..text.find("-----END")?];
    let mut lines = text.lines().map(str::trim).skip(1);
    let mut base64 = String::new();
    // Headers end with an empty line.
    for line in lines.by_ref() {
        if line.is_empty() {
            break;
        }
        if !line.contains(": ") {
            base64.push_str(line);
            break;
        }
    }
    for line in lines {
        if line.starts_with('=') {
            break;
        }
        base64.push_str(line);
    }
    STANDARD.decode(base64).ok()
}

fn armour(bytes: &[u8]) -> String {
    let mut text = "-----BEGIN PGP SIGNATURE-----\n\n".to_owned();
    let base64 = STANDARD.encode(bytes);
    for (at, letter) in base64.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    let sum = crc24(bytes).to_be_bytes();
    text.push_str(&format!(
        "\n={}\n-----END PGP SIGNATURE-----\n",
        STANDARD.encode(&sum[1..])
    ));
    text
}

fn crc24(bytes: &[u8]) -> u32 {
    let mut sum: u32 = 0x00b7_04ce;
    for byte in bytes {
        sum ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            sum <<= 1;
            if sum & 0x0100_0000 != 0 {
                sum ^= 0x0186_4cfb;
            }
        }
    }
    sum & 0x00ff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused() {
        for text in [
            "",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n-----END",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ==\n-----END PGP",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\nA: b\n\nxf8=\n=abcd\n-----END PGP",
        ] {
            assert!(PgpKey::parse(&Secret::new(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn cut_keys_are_refused_wherever_the_cut_is() {
        let whole = {
            let mut body = vec![4, 0, 0, 0, 1, EDDSA, 9];
            body.extend(ED25519);
            number(&mut body, &[0x40; 33]);
            body.push(0);
            number(&mut body, &[7; 32]);
            body
        };
        assert!(PgpKey::read(&whole).is_ok());
        for cut in 0..whole.len() {
            assert!(PgpKey::read(&whole[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn checksums() {
        assert_eq!(crc24(b""), 0x00b7_04ce);
        assert_eq!(crc24(b"123456789"), 0x0021_cf02);
    }
}
