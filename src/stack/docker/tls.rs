//! TLS to the engine: which files it takes, and what is wrong with them or with the
//! other side.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use super::host::{By, Host, Tls};
use crate::error::{Error, Result, chain};

/// Who signs the engine's certificate.
const CA: &str = "ca.pem";
/// The certificate that we show.
const CERT: &str = "cert.pem";
/// Its key.
const KEY: &str = "key.pem";

impl Tls {
    /// The files of Docker's context with this id, if it has any.
    pub(super) fn of_context(config: &Path, id: &str, name: &str, asked: bool) -> Option<Self> {
        let folder = config.join("contexts/tls").join(id).join("docker");
        let any = [CA, CERT, KEY].iter().any(|file| folder.join(file).exists());
        (any || asked).then(|| Self { folder, by: By::Context(name.to_owned()) })
    }

    /// Opens a connection with them. Bollard's own TLS would trust, beside `ca.pem`,
    /// whoever this machine trusts, fail where one of these can't be read, go on without
    /// a key that is no good, and take up earlier sessions, which proxies made with
    /// OpenSSL refuse. The `docker` command does none of this, so bollard is given
    /// a transport that does not either.
    pub(super) fn open(
        &self,
        host: &Host,
        timeout: u64,
        version: &bollard::ClientVersion,
    ) -> Result<bollard::Docker> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let client = Client::builder(TokioExecutor::new())
            // As bollard's own clients.
            .pool_max_idle_per_host(0)
            .build(HttpsConnector::from((tcp, self.config(host)?)));
        let transport = move |request: bollard::BollardRequest| {
            let answer = client.request(request);
            async move { Ok(answer.await?) }
        };
        let address = host.address.split_once("://").map_or(host.address.as_str(), |(_, rest)| rest);
        let address = format!("https://{address}");
        bollard::Docker::connect_with_custom_transport(transport, Some(address), timeout, version)
            .map_err(|error| super::engine::unreachable(host, &error))
    }

    /// What the files come to.
    fn config(&self, host: &Host) -> Result<ClientConfig> {
        let mut authorities = RootCertStore::empty();
        let (usable, _) = authorities.add_parsable_certificates(self.certificates(CA, host)?);
        if usable == 0 {
            return Err(self.wrong(host, CA, "has no certificate that can be read"));
        }
        let (chain, key) = (self.certificates(CERT, host)?, self.key(host)?);
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| Error::failed("prepare TLS", error))?
                .with_root_certificates(authorities)
                .with_client_auth_cert(chain, key)
                // Of the key only that it is no good, never the reader's words about it.
                .map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => {
                        self.wrong(host, KEY, &format!("is not the key of the certificate in {CERT}"))
                    }
                    rustls::Error::InvalidCertificate(_) => {
                        self.wrong(host, CERT, "has a certificate that can't be read")
                    }
                    _ => self.wrong(host, KEY, "has a private key that can't be used (RSA, ECDSA or EdDSA)"),
                })?;
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn certificates(&self, file: &str, host: &Host) -> Result<Vec<CertificateDer<'static>>> {
        let bytes = self.read(file, host)?;
        match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => Err(self.wrong(host, file, "has no certificate (a block `BEGIN CERTIFICATE`)")),
            Err(_) => Err(self.wrong(host, file, "is not a well-formed PEM file")),
        }
    }

    fn key(&self, host: &Host) -> Result<PrivateKeyDer<'static>> {
        use rustls::pki_types::pem::Error as Pem;
        PrivateKeyDer::from_pem_slice(&self.read(KEY, host)?).map_err(|error| match error {
            Pem::NoItemsFound => {
                self.wrong(host, KEY, "has no private key without a passphrase (a block `BEGIN PRIVATE KEY`)")
            }
            _ => self.wrong(host, KEY, "is not a well-formed PEM file"),
        })
    }

    fn read(&self, file: &str, host: &Host) -> Result<Vec<u8>> {
        match std::fs::read(self.folder.join(file)) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => Err(self.wrong(host, file, "is empty")),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(self.wrong(host, file, &format!("can't be read: {error}"))),
        }
    }

    /// What is wrong with a file, why just this one is looked at, and what to do.
    fn wrong(&self, host: &Host, file: &str, what: &str) -> Error {
        let files = format!("TLS to the engine at {} with the {CA}, {CERT} and {KEY}", host.address);
        let why = match &self.by {
            By::Variable(name) => format!(
                "{name} asks for {files} of DOCKER_CERT_PATH: set that to the folder that has them, or unset {name}"
            ),
            By::VariableAlone(name) => format!(
                "{name} asks for {files} of Docker's own folder, since DOCKER_CERT_PATH is not set: set it to the \
                 folder that has them, or unset {name}"
            ),
            By::Context(name) => format!(
                "Docker's context {name:?} asks for {files} beside it: give it them with `docker context update`"
            ),
        };
        Error::Usage(format!("{} {what}; {why}", self.folder.join(file).display()))
    }

    /// How a failure to connect is to be told, if TLS is the reason.
    fn failed(&self, host: &Host, error: &rustls::Error) -> Error {
        let engine = format!("the Docker engine at {} ({})", host.address, host.source);
        let [ca, cert] = [CA, CERT].map(|file| self.folder.join(file).display().to_string());
        match error {
            // One that was made anew has the old one's name, and so only its signature is wrong.
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => Error::infrastructure(format!(
                "{engine} is not trusted: its certificate is not signed by {ca}; is it another engine, or were its certificates made anew? Take the {CA} that belongs to it"
            )),
            rustls::Error::InvalidCertificate(
                name @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
            ) => Error::infrastructure(format!(
                "{engine} is not trusted: {name}; call it by a name that its certificate has, or make it one with this name"
            )),
            rustls::Error::InvalidCertificate(reason) => Error::infrastructure(format!(
                "{engine} is not trusted: its certificate is no good: {reason}; make it a new one, signed by {ca}"
            )),
            rustls::Error::AlertReceived(alert) if is_about_certificates(*alert) => {
                Error::infrastructure(format!(
                    "{engine} does not take the certificate {cert}: it answered with the TLS alert {alert:?}; take one that the engine's own CA has signed"
                ))
            }
            rustls::Error::InvalidMessage(_) => {
                let (who, advice) = match &self.by {
                    By::Variable(name) | By::VariableAlone(name) => (
                        (*name).to_owned(),
                        format!("name its TLS port in DOCKER_HOST, usually 2376, or unset {name}"),
                    ),
                    By::Context(name) => (
                        format!("Docker's context {name:?}"),
                        "name its TLS port there, usually 2376".to_owned(),
                    ),
                };
                Error::Usage(format!(
                    "{engine} does not speak TLS on this port, which {who} asks for; {advice}"
                ))
            }
            other => Error::infrastructure(format!("no TLS connection to {engine}: {other}")),
        }
    }
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateRequired
    )
}

/// How a failure to connect is to be told, if it comes of TLS on one side: ours, or
/// the other only.
pub(super) fn mismatch(host: &Host, error: &bollard::errors::Error) -> Option<Error> {
    if let Some(tls) = &host.tls {
        return cause(error).map(|error| tls.failed(host, error));
    }
    let speaks_tls = match error {
        // Go's servers, and so the engine, answer a request without TLS in HTTP.
        bollard::errors::Error::DockerResponseServerError { status_code: 400, message } => {
            message.contains("HTTPS server")
        }
        // Others send an alert, which is no HTTP.
        other => chain(other).contains("invalid HTTP version"),
    };
    (speaks_tls && !host.is_local()).then(|| {
        Error::Usage(format!(
            "the Docker engine at {} ({}) was asked without TLS, and its port speaks TLS; set \
             DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder with its {CA}, {CERT} and {KEY}",
            host.address, host.source
        ))
    })
}

/// What rustls said, below what others made of it.
fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // The source of an `io::Error` is not what is in it, but the source of that.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests;
