//! What `sslmode` says is what is done.

use std::fs;
use std::sync::Arc;

use logd_statehandlers::{PostgresState, StateErrorKind};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::server::{Certificate, Server};

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), Issuer::new(params, key))
}

fn signed(authority: &Issuer<'static, KeyPair>, name: &str) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.into()]).unwrap().signed_by(&key, authority).unwrap();
    Certificate { certificate: certificate.pem(), key: key.serialize_pem() }
}

struct Encrypted {
    server: Server,
    folder: TempDir,
}

impl Encrypted {
    /// A server whose certificate is for a name, and the files `right.pem` and `wrong.pem` of authorities.
    fn start(name: &str) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (right, issuer) = authority("right");
        fs::write(folder.path().join("right.pem"), right).unwrap();
        fs::write(folder.path().join("wrong.pem"), authority("wrong").0).unwrap();
        fs::write(folder.path().join("none.pem"), "nothing").unwrap();
        Arc::new(Self { server: Server::start(Some(&signed(&issuer, name))).unwrap(), folder })
    }

    /// Opens a store, and tells whether the server has its connection encrypted; or the kind of the error, and its text.
    async fn open(&self, host: &str, parameters: &str) -> Result<bool, (StateErrorKind, String)> {
        let folder = self.folder.path().to_str().unwrap();
        let parameters = parameters.replace("FOLDER", folder);
        let name = format!("test{}", parameters.len());
        let url =
            format!("{}?application_name={name}&{parameters}", self.server.url().replace("127.0.0.1", host));
        let _state = PostgresState::open(&url).await.map_err(|error| (error.kind(), error.to_string()))?;
        let look =
            "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1";
        let row = crate::connect(&format!("{}?sslmode=disable", self.server.url())).await.unwrap();
        Ok(row.query_one(look, &[&name]).await.unwrap().get(0))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_is_checked_as_far_as_is_asked_for() {
    let encrypted = Encrypted::start("localhost");
    for (host, parameters, is_encrypted) in [
        ("localhost", "sslmode=verify-full&sslrootcert=FOLDER/right.pem", true),
        ("localhost", "sslmode=verify-ca&sslrootcert=FOLDER/right.pem", true),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=FOLDER/right.pem", true),
        ("127.0.0.1", "sslmode=require&sslrootcert=FOLDER/right.pem", true),
        ("127.0.0.1", "sslmode=require", true),
        ("127.0.0.1", "sslmode=prefer", true),
        ("127.0.0.1", "", true),
        ("127.0.0.1", "sslmode=disable", false),
    ] {
        assert_eq!(encrypted.open(host, parameters).await, Ok(is_encrypted), "{host} {parameters}");
    }
    for (host, parameters, why) in [
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=FOLDER/right.pem", "not valid for name"),
        ("localhost", "sslmode=verify-full&sslrootcert=FOLDER/wrong.pem", "UnknownIssuer"),
        ("localhost", "sslmode=verify-ca&sslrootcert=FOLDER/wrong.pem", "UnknownIssuer"),
        ("localhost", "sslmode=require&sslrootcert=FOLDER/wrong.pem", "UnknownIssuer"),
        ("localhost", "sslmode=verify-full", ""),
        ("localhost", "sslmode=verify-ca&sslrootcert=system", ""),
        ("localhost", "sslmode=verify-full&sslrootcert=FOLDER/none.pem", "there are none"),
        ("localhost", "sslmode=verify-full&sslrootcert=FOLDER/missing.pem", "missing.pem"),
    ] {
        let (kind, text) = encrypted.open(host, parameters).await.unwrap_err();
        assert_eq!(kind, StateErrorKind::Failed, "{host} {parameters}: {text}");
        assert!(text.contains(why), "{host} {parameters}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_can_be_the_name() {
    let encrypted = Encrypted::start("127.0.0.1");
    let full = "sslmode=verify-full&sslrootcert=FOLDER/right.pem";
    assert_eq!(encrypted.open("127.0.0.1", full).await, Ok(true));
    assert_eq!(encrypted.open("localhost", full).await.unwrap_err().0, StateErrorKind::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_without_tls_is_refused_where_it_is_asked_for() {
    let server = crate::shared().unwrap();
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = PostgresState::open(&format!("{}?sslmode={mode}", server.url())).await.unwrap_err();
        assert_eq!(error.kind(), StateErrorKind::Failed, "{mode}: {error}");
        assert!(error.to_string().contains("does not support TLS"), "{mode}: {error}");
    }
}
