//! `aws issuer`: makes the key and the documents of an issuer that AWS can trust.

use std::path::{Path, PathBuf};

use super::app::{App, Exit, Failure};
use super::args::IssuerArgs;
use crate::formats::issuer::{DISCOVERY, KEYS, check, discovery, with_key};
use crate::formats::web_token::signing::{SigningKey, generate};

/// Largest key and largest set of keys, in bytes.
const LARGEST: u64 = 1 << 20;

/// Writes what is to be hosted, and says what to do with it. Asks nobody.
pub(super) fn issuer(app: &App<'_>, args: &IssuerArgs) -> Result<Exit, Failure> {
    let url = &args.url;
    check(url).map_err(|why| {
        Failure::usage(
            format!("the issuer's address does not do: {why}"),
            "write https://HOST or https://HOST/PATH, where everybody can read the files",
        )
    })?;
    let (key, out) = (app.here.join(&args.key), app.here.join(&args.out));
    if plain(&key).starts_with(plain(&out)) {
        return Err(Failure::usage(
            "the private key would be in the directory that is to be published",
            "give a `--key` outside of `--out`",
        ));
    }
    // What is there is looked at first, so that nothing is made beside what cannot be used.
    let keys = out.join(KEYS);
    let old = match app.files.exists(&keys) && !args.replace {
        true => Some(app.files.read(&keys, LARGEST)?),
        false => None,
    };
    let kept = app.files.exists(&key);
    let pem = match kept {
        true => app.files.read(&key, LARGEST)?,
        false => generate().map_err(Failure::internal)?.expose().to_owned(),
    };
    let signing = SigningKey::from_pem(&pem).map_err(|why| {
        Failure::usage(
            format!("{} {why}", args.key.display()),
            "give an RSA key of 2048 bits or more, or a `--key` that is not there yet",
        )
    })?;
    let set = with_key(old.as_deref(), signing.public()).map_err(|why| {
        Failure::usage(
            format!("{} cannot be kept: {why}", args.out.join(KEYS).display()),
            "mend it, or write it anew with `--replace`",
        )
    })?;
    if !kept {
        app.files.create_private(&key, &pem)?;
    }
    put(app, &keys, &format!("{set:#}\n"))?;
    put(
        app,
        &out.join(DISCOVERY),
        &format!("{:#}\n", discovery(url)),
    )?;
    let count = set["keys"].as_array().map_or(0, Vec::len);
    app.print(&format!(
        "{key}: {made}; keep it secret\n\
         {out}/{DISCOVERY} and {out}/{KEYS}: written, with {count} {word}\n\n\
         Next:\n\
         1. Host {out} so that everybody, AWS included, can read\n\
         \x20  {url}/{DISCOVERY}\n\
         2. Once in each account:\n\
         \x20  aws iam create-open-id-connect-provider --url {url} --client-id-list sts.amazonaws.com\n\
         3. The trust policy of the role:\n\
         \x20  pipewright aws policy PIPELINE --trust --issuer {url} \\\n\
         \x20      --subject 'repo:HOST/OWNER/NAME:ref:refs/heads/main:pipeline:PIPELINE'\n\
         4. Where runs happen:\n\
         \x20  export PIPEWRIGHT_ISSUER={url} PIPEWRIGHT_ISSUER_KEY={key}\n",
        key = args.key.display(),
        out = args.out.display(),
        made = if kept { "was there and stays" } else { "made" },
        word = if count == 1 { "key" } else { "keys" },
    ))
}

/// A path without `.` and `..`, by its text.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn put(app: &App<'_>, path: &Path, text: &str) -> Result<(), Failure> {
    match app.files.exists(path) {
        true => app.files.write(path, text)?,
        false => app.files.create(path, text)?,
    }
    Ok(())
}
