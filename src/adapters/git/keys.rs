//! Private keys of ssh, as OpenSSH writes them: what they sign. Keys stay in memory; nothing here
//! writes or shows one.

use rsa::pkcs1v15::SigningKey;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use rsa::{BigUint, RsaPrivateKey};
use ssh_key::private::{KeypairData, PrivateKey, RsaKeypair};
use ssh_key::{Algorithm, HashAlg, LineEnding, Signature, SshSig};

use crate::base::Secret;

/// A private key of ssh.
pub(super) struct SshKey(PrivateKey);

impl SshKey {
    /// Reads a key; the error says what is wrong without showing anything of it.
    pub(super) fn parse(text: &Secret) -> Result<Self, String> {
        // Secrets lose their last line break on many ways, and some gain carriage returns.
        let text = text.expose().replace("\r\n", "\n");
        let text = text.trim();
        if text.contains("PRIVATE KEY-----") && !text.contains("BEGIN OPENSSH PRIVATE KEY") {
            return Err(
                "the ssh key is not written as OpenSSH does: rewrite it by `ssh-keygen -p -f FILE`"
                    .to_owned(),
            );
        }
        let key = PrivateKey::from_openssh(format!("{text}\n"))
            .map_err(|_| "the ssh key is no private key as OpenSSH writes it".to_owned())?;
        if key.is_encrypted() {
            return Err("the ssh key has a passphrase: give one without".to_owned());
        }
        Ok(Self(key))
    }

    /// The public key as it goes over the wire.
    pub(super) fn blob(&self) -> Result<Vec<u8>, String> {
        self.0.public_key().to_bytes().map_err(|e| e.to_string())
    }

    /// Signs what an ssh server asks to be signed.
    pub(super) fn sign(&self, data: &[u8], hash: HashAlg) -> Result<Vec<u8>, String> {
        let signature = self.signature(data, hash)?;
        let mut wire = Vec::new();
        let name = signature.algorithm().to_string();
        for part in [name.as_bytes(), signature.as_bytes()] {
            let length = u32::try_from(part.len()).map_err(|error| error.to_string())?;
            wire.extend(length.to_be_bytes());
            wire.extend(part);
        }
        Ok(wire)
    }

    /// The signature of a commit, in armour (PROTOCOL.sshsig).
    pub(super) fn sign_commit(&self, content: &[u8]) -> Result<String, String> {
        let (space, hash) = ("git", HashAlg::Sha512);
        let sign = || {
            let data = SshSig::signed_data(space, hash, content)?;
            let signature = self
                .signature(&data, hash)
                .map_err(|_| ssh_key::Error::Crypto)?;
            let key = self.0.public_key().key_data().clone();
            SshSig::new(key, space, hash, signature)?.to_pem(LineEnding::LF)
        };
        sign().map_err(|error| format!("the ssh key cannot sign: {error}"))
    }

    fn signature(&self, data: &[u8], hash: HashAlg) -> Result<Signature, String> {
        match self.0.key_data() {
            KeypairData::Rsa(key) => {
                let bytes = rsa_key(key)?.sign(data, hash);
                Signature::new(Algorithm::Rsa { hash: Some(hash) }, bytes)
                    .map_err(|error| error.to_string())
            }
            KeypairData::Ed25519(_) | KeypairData::Ecdsa(_) => self
                .0
                .try_sign(data)
                .map_err(|error| format!("the ssh key cannot sign: {error}")),
            _ => Err(format!(
                "an ssh key of the kind {} cannot be used: ed25519, ecdsa and rsa can",
                self.0.algorithm()
            )),
        }
    }
}

fn rsa_key(key: &RsaKeypair) -> Result<Rsa, String> {
    let number = |number: &ssh_key::Mpint| number.as_positive_bytes().unwrap_or_default().to_vec();
    Rsa::new(
        &number(&key.public.n),
        &number(&key.public.e),
        &number(&key.private.d),
        [&number(&key.private.p), &number(&key.private.q)],
    )
}

/// A private key of RSA, from numbers in big-endian order.
pub(super) struct Rsa(RsaPrivateKey);

impl Rsa {
    pub(super) fn new(n: &[u8], e: &[u8], d: &[u8], primes: [&[u8]; 2]) -> Result<Self, String> {
        let number = BigUint::from_bytes_be;
        RsaPrivateKey::from_components(
            number(n),
            number(e),
            number(d),
            primes.into_iter().map(number).collect(),
        )
        .map(Self)
        .map_err(|_| "the numbers of the RSA key do not belong together".to_owned())
    }

    /// PKCS #1 v1.5.
    pub(super) fn sign(&self, data: &[u8], hash: HashAlg) -> Vec<u8> {
        match hash {
            HashAlg::Sha256 => SigningKey::<rsa::sha2::Sha256>::new(self.0.clone())
                .sign(data)
                .to_vec(),
            _ => SigningKey::<rsa::sha2::Sha512>::new(self.0.clone())
                .sign(data)
                .to_vec(),
        }
    }
}
