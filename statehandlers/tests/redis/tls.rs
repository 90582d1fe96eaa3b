//! TLS: who is trusted, and who is not.

use std::path::PathBuf;

use logd_statehandlers::{Fence, RedisState, StateErrorKind, StateHandler};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::rules::{at, key};
use super::server::{RedisServer, free_port};

struct Tls {
    server: RedisServer,
    port: u16,
    ca: PathBuf,
    other_ca: PathBuf,
    _folder: TempDir,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server whose certificate is for the host `name`.
fn start(name: &str) -> Tls {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: String| {
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (issuer, other) = (authority(), authority());
    let ca = write("ca.pem", issuer.pem());
    let other_ca = write("other.pem", other.pem());
    let pair = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&pair, &issuer).unwrap();
    let (certificate, pair) =
        (write("server.pem", certificate.pem()), write("server.key", pair.serialize_pem()));
    let port = free_port().unwrap();
    let server = RedisServer::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        certificate.to_str().unwrap(),
        "--tls-key-file",
        pair.to_str().unwrap(),
        "--tls-ca-cert-file",
        ca.to_str().unwrap(),
        "--tls-auth-clients",
        "no",
        "--user",
        "anna",
        "on",
        ">hunter2",
        "~logd:*",
        "+@all",
    ]);
    Tls { server: server.unwrap(), port, ca, other_ca, _folder: folder }
}

#[tokio::test]
async fn trusted_server_is_used() {
    for name in ["127.0.0.1", "localhost"] {
        let tls = start(name);
        let base = format!("rediss://anna:hunter2@{name}:{}", tls.port);
        let by_url = RedisState::open(format!("{base}/1?ca={}", tls.ca.display())).await.unwrap();
        by_url.complete(&key("billing"), &at(5), Fence::NONE).await.unwrap();
        let pem = std::fs::read(&tls.ca).unwrap();
        for builder in [
            RedisState::builder(format!("{base}/1")).ca_file(&tls.ca),
            RedisState::builder(format!("{base}/1")).ca_pem(pem),
        ] {
            let state = builder.open().await.unwrap();
            assert_eq!(state.get(&key("billing")).await.unwrap(), Some(at(5)));
        }
    }
}

#[tokio::test]
async fn untrusted_server_is_refused() {
    let tls = start("localhost");
    for (host, ca) in [("127.0.0.1", Some(&tls.ca)), ("localhost", Some(&tls.other_ca)), ("localhost", None)]
    {
        let ca = ca.map(|ca| format!("?ca={}", ca.display())).unwrap_or_default();
        let error =
            RedisState::open(format!("rediss://anna:hunter2@{host}:{}{ca}", tls.port)).await.unwrap_err();
        assert_eq!(error.kind(), StateErrorKind::Failed, "{host}{ca}: {error}");
        assert!(
            error.to_string().contains("certificate") && !format!("{error:?}").contains("hunter2"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn sides_that_disagree_about_tls_fail() {
    let tls = start("localhost");
    let plain = RedisState::open(format!("redis://anna:hunter2@localhost:{}", tls.port)).await.unwrap_err();
    let wrapped = format!("rediss://anna:hunter2@localhost:{}?ca={}", tls.server.port(), tls.ca.display());
    let wrapped = RedisState::open(wrapped).await.unwrap_err();
    for error in [plain, wrapped] {
        assert!([StateErrorKind::Unavailable, StateErrorKind::Failed].contains(&error.kind()), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}
