//! Signs a request, so that the service knows who asks and that nobody changed it on the way.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SigningSettings, sign as instructions,
};
use aws_sigv4::sign::v4;
use reqwest::Request;
use reqwest::header::{HeaderName, HeaderValue};

/// By whom, for what and when.
pub(super) struct Signer<'a> {
    pub(super) credentials: &'a Credentials,
    pub(super) region: &'a str,
    /// The service's name in signatures.
    pub(super) service: &'a str,
    pub(super) time: SystemTime,
    /// Services differ in how they read addresses.
    pub(super) settings: SigningSettings,
}

/// Adds the signature of a request that will have this body. Its headers are signed along.
pub(super) fn sign(request: &mut Request, body: &[u8], signer: Signer<'_>) -> Result<(), String> {
    let identity = signer.credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(signer.region)
        .name(signer.service)
        .time(signer.time)
        .settings(signer.settings)
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let output = {
        let headers = request.headers().iter();
        let headers: Option<Vec<_>> = headers
            .map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        let headers = headers.ok_or("a header is no text")?;
        let signable = SignableRequest::new(
            request.method().as_str(),
            request.url().as_str(),
            headers.into_iter(),
            SignableBody::Bytes(body),
        );
        let signable = signable.map_err(|error| error.to_string())?;
        instructions(signable, &params).map_err(|error| error.to_string())?
    };
    let (added, _) = output.into_parts();
    for (name, text) in added.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
        let mut text = HeaderValue::from_str(text).map_err(|error| error.to_string())?;
        text.set_sensitive(true);
        request.headers_mut().insert(name, text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::Method;
    use reqwest::header::{AUTHORIZATION, RANGE};

    use super::super::s3::settings;
    use super::*;

    /// The example that the documentation of S3's signatures calculates step by step.
    #[test]
    fn the_published_example_of_an_object() {
        let credentials = Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
            None,
            "test",
        );
        let url = "https://examplebucket.s3.amazonaws.com/test.txt";
        let mut request = Request::new(Method::GET, url.parse().unwrap());
        let range = HeaderValue::from_static("bytes=0-9");
        request.headers_mut().insert(RANGE, range);
        let signer = Signer {
            credentials: &credentials,
            region: "us-east-1",
            service: "s3",
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600),
            settings: settings(),
        };
        sign(&mut request, b"", signer).unwrap();
        let signed = request.headers()[AUTHORIZATION].to_str().unwrap();
        assert_eq!(
            signed,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
    }
}
