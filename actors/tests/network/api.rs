//! The API's side of TLS: whoever an organisation certified comes in, under the name it certified.

use std::{pin::Pin, sync::Arc};

use minidlt_actors::{
    metrics::Metrics,
    tls::{self, Credentials, TlsRefusal},
};
use openssl::ssl::Ssl;
use tokio::io::AsyncReadExt;
use tokio_openssl::SslStream;

use crate::{
    certificates::Ca,
    cluster::{Network, identity},
};

/// Connects with these credentials; what the API makes of them.
async fn visit(network: &Network, credentials: &Credentials) -> Option<Result<String, TlsRefusal>> {
    let authority = network.authority();
    let acceptor = network.tls(1, Arc::new(Metrics::new())).acceptor().unwrap().build();
    let (near, far) = tokio::io::duplex(1 << 16);
    let client = tls::peer_context(credentials, &authority).unwrap();
    let mut client = SslStream::new(Ssl::new(&client).unwrap(), near).unwrap();
    let mut server = SslStream::new(Ssl::new(acceptor.context()).unwrap(), far).unwrap();
    let visiting = actix_rt::spawn(async move {
        let connected = Pin::new(&mut client).connect().await;
        let _refused_or_over = client.read_u8().await;
        connected.is_ok()
    });
    let accepted = Pin::new(&mut server).accept().await;
    let seen = accepted.is_ok().then(|| authority.identify(server.ssl()).map(|who| who.to_string()));
    drop(server);
    visiting.await.unwrap();
    seen
}

#[actix_rt::test]
async fn users_come_in_under_the_name_their_organisation_certified() {
    let network = Network::new(2);
    let trader = network.cas[0].issue("trader", "Org0");
    assert_eq!(visit(&network, &trader).await, Some(Ok("trader@Org0".into())));
    let forged = network.cas[1].issue("trader", "Org0");
    assert!(matches!(visit(&network, &forged).await, Some(Err(TlsRefusal::OtherAuthority { .. }))));
    let indirect = network.cas[0].intermediate("Org0").issue("trader", "Org0");
    assert!(matches!(visit(&network, &indirect).await, Some(Err(TlsRefusal::OtherAuthority { .. }))));
    let stranger = Ca::new("Org0").issue("trader", "Org0");
    assert_eq!(visit(&network, &stranger).await, None);
}

#[test]
fn settings_that_cannot_work_say_which_and_why() {
    let network = Network::new(2);
    let mut organisations = network.genesis.organisations.clone();
    organisations[1].ca = "not a certificate".into();
    let Err(bad) = tls::Authority::new(&organisations) else { panic!("it took it") };
    assert_eq!(bad.organisation, identity(1).organisation, "{bad}");
}
