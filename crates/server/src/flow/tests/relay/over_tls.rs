//! The same over TLS: what the connection breaks in the middle of is a record.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;

/// What TLS 1.3 adds to what one record says: five octets before it, its type and 16 of its tag after
/// it (RFC 8446 §5.2).
const RECORD_MORE: usize = 5 + 1 + 16;
/// Of the handshake every so manieth octet is a place to cut: nothing of the message is said there yet.
const HANDSHAKE_STEP: usize = 19;
/// Signatures of ECDSA in DER have up to two octets more or fewer, and tickets too.
const HANDSHAKE_VARIES: usize = 6;

fn tls(scene: &Scene) -> Arc<ServerConfig> {
    let (chain, key) = scene.tls_pair();
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

// As in clear: lost never, twice only between the end of the content and its answer. What breaks
// during the handshake is said again in clear at once (RFC 7435 §3), and once.
#[test]
fn a_connection_over_tls_that_is_cut_loses_nothing_and_doubles_nothing_but_in_the_window() {
    let scene = Scene::new();
    let host = Host::start();
    route(&scene, host.address);
    let tls_stood = Arc::<AtomicUsize>::default();
    let script = |cut| Script {
        cut: Some(cut),
        offers: vec!["STARTTLS"],
        tls: Some(tls(&scene)),
        tls_stood: tls_stood.clone(),
        ..Script::default()
    };
    // Whole, once: how long the handshake is.
    queue(&scene, "first@pec.alfa.example");
    host.next(script(usize::MAX));
    pass(&scene);
    assert_eq!((waiting(&scene), host.taken().len()), (0, 1));
    let stood = tls_stood.load(Ordering::SeqCst);
    assert!(stood > 2000, "{stood}");

    let (mut whole, mut cut, mut cuts, mut doubled, mut in_clear) = (false, 0, 0, 0, 0);
    while !whole {
        let id = format!("m{cut}@pec.alfa.example");
        queue(&scene, &id);
        let before = host.connections.load(Ordering::SeqCst);
        host.next(script(cut));
        pass(&scene);
        let first = host.taken();
        let once = host.connections.load(Ordering::SeqCst) == before + 1;
        let done = waiting(&scene) == 0;
        assert_eq!(done, first.iter().any(|(_, answered)| *answered), "cut at {cut}");
        in_clear += usize::from(done && !once);
        whole = done && once;
        scene.site.transport.forget();
        pass(&scene);
        let second = host.taken();
        assert_eq!(waiting(&scene), 0, "cut at {cut}");
        assert_eq!(second.len(), usize::from(!done), "cut at {cut}");
        doubled += usize::from(first.len() + second.len() == 2);
        for (content, _) in first.iter().chain(&second) {
            assert_eq!(content, &format!("Message-ID: <{id}>\r\n\r\n..\r\nhi\r\n"));
        }
        cuts += 1;
        // Lengths of signatures and tickets differ a little.
        cut += if cut + 4 * HANDSHAKE_STEP < stood { HANDSHAKE_STEP } else { 1 };
    }
    // The window is as long as the record of the answer, and nothing before it. Of one connection: each
    // counts its octets anew, from a handshake that may be a few longer or shorter than the last.
    let window = "250 2.0.0 taken\r\n".len() + RECORD_MORE;
    assert!(doubled.abs_diff(window) <= HANDSHAKE_VARIES, "{doubled} {window}");
    assert!(cut > stood + 200 && in_clear > 50, "{cut} {stood} {in_clear}");
    assert!(events(&scene).iter().all(|(event, _)| event == "trasmissione"));
    assert_eq!(events(&scene).len(), cuts + 1);
}
