//! A server of four connections: it drops the first, is silent on the second, answers pings without data on the
//! third, and works on the fourth.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::*;

const LONG: Duration = Duration::from_secs(20);

type Accepted = WebSocketStream<TlsStream<TcpStream>>;

/// A server that its own certificate names, and what a client needs that trusts it.
async fn server() -> (TcpListener, TlsAcceptor, Feed) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
    let certificate = signed.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
    let server = ServerConfig::builder().with_no_client_auth();
    let server = server.with_single_cert(vec![certificate.clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(server.expect("its own key")));

    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let client = ClientConfig::builder().with_root_certificates(roots);
    let client = Arc::new(client.with_no_client_auth());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let feed = Feed::new(format!("wss://localhost:{port}"), "subscribe".into()).expect("valid");
    let millis = Duration::from_millis;
    let heartbeat = Config::builder().interval(millis(50)).timeout(millis(500));
    let silence = Config::builder().watch(millis(800)).no_close();
    let feed = Feed {
        heartbeat: heartbeat.no_close().build().expect("valid"),
        silence: silence.build().expect("valid"),
        // The second wait in a row is of a second or two, the third would be of minutes.
        waits: feed
            .waits
            .with_min_delay(millis(10))
            .with_factor(100.0)
            .with_max_delay(millis(100_000)),
        connector: Some(Connector::Rustls(client)),
        ..feed
    };
    (listener, acceptor, feed)
}

async fn accept(listener: &TcpListener, acceptor: &TlsAcceptor) -> Accepted {
    let (tcp, _) = listener.accept().await.expect("a client");
    let tls = acceptor
        .accept(tcp)
        .await
        .expect("it trusts the certificate");
    let mut socket = tokio_tungstenite_0_30::accept_async(tls)
        .await
        .expect("a handshake");
    // Each connection begins with the subscription.
    assert_eq!(text(&mut socket).await.as_deref(), Some("subscribe"));
    socket
}

/// The next text; none at the end, however it comes.
async fn text(socket: &mut Accepted) -> Option<String> {
    match socket.next().await?.ok()? {
        Message::Text(text) => Some(text.as_str().to_owned()),
        other => panic!("{other:?}"),
    }
}

fn pong(ping: &str) -> Message {
    assert!(ping.starts_with(r#"{"op":"ping","id":""#), "{ping}");
    Message::text(ping.replace("ping", "pong"))
}

/// Answers a ping, and then sends some data.
async fn work(socket: &mut Accepted) {
    let ping = text(socket).await.expect("a ping");
    socket.send(pong(&ping)).await.expect("open");
    let data = Message::text("a trade");
    socket.send(data).await.expect("open");
}

#[tokio::test]
async fn it_comes_back_whatever_happens_and_closes_in_order() {
    let (listener, acceptor, feed) = server().await;
    let stop = CancellationToken::new();
    let client = run(&feed, &stop);
    let server = async {
        // Works, and is gone without a word.
        let mut socket = accept(&listener, &acceptor).await;
        work(&mut socket).await;
        text(&mut socket).await.expect("a ping");
        drop(socket);

        // Falls silent: not even data come.
        let mut socket = accept(&listener, &acceptor).await;
        pong(&text(&mut socket).await.expect("a ping"));
        let silent = time::Instant::now();
        while text(&mut socket).await.is_some() {}
        // The bound is 1.05 s, which leaves a busy machine a second.
        assert!(silent.elapsed() < Duration::from_secs(2));
        let gone = time::Instant::now();

        // The second wait in a row, and a feed that is dead while its server is not.
        let mut socket = accept(&listener, &acceptor).await;
        assert!(gone.elapsed() > Duration::from_millis(900));
        work(&mut socket).await;
        let (dead, mut pings) = (time::Instant::now(), 0);
        while let Some(ping) = text(&mut socket).await {
            pings += 1;
            let _ = socket.send(pong(&ping)).await;
        }
        assert!(pings > 5, "{pings}");
        assert!(dead.elapsed() > Duration::from_millis(700));
        let gone = time::Instant::now();

        // The third connection has worked: the waits start over. We are stopped here.
        let mut socket = accept(&listener, &acceptor).await;
        assert!(gone.elapsed() < Duration::from_millis(900));
        work(&mut socket).await;
        stop.cancel();
        let mut closed = None;
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                closed = frame;
            }
        }
        let code = closed.map(|frame| frame.code);
        assert_eq!(code, Some(CloseCode::Normal));
    };
    let both = futures::future::join(client, server);
    let (ended, ()) = time::timeout(LONG, both).await.expect("in time");
    assert_eq!(ended, Ok(()));
}

#[tokio::test]
async fn it_gives_up_where_nothing_can_get_better() {
    let stop = CancellationToken::new();
    let (listener, acceptor, mut feed) = server().await;
    let refused = async {
        let mut socket = accept(&listener, &acceptor).await;
        let (code, reason) = (CloseCode::Policy, "no such channel".into());
        let _ = socket.close(Some(CloseFrame { code, reason })).await;
        while socket.next().await.is_some() {}
    };
    let both = futures::future::join(run(&feed, &stop), refused);
    let (ended, ()) = time::timeout(LONG, both).await.expect("in time");
    assert!(
        ended
            .expect_err("refused")
            .ends_with("no such channel (1008)")
    );

    feed.url = "https://localhost".into();
    assert_eq!(
        run(&feed, &stop).await,
        Err("URL scheme not supported".into())
    );
}
