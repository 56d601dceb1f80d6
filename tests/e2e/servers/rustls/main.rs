//! The test application over tokio and rustls: `/missing/N` answers 404, anything else 200 and an order.
//! Arguments: ADDRESS CERTIFICATE KEY.

use std::{env, fs::File, io::BufReader, io::IoSlice, sync::Arc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{rustls::ServerConfig, TlsAcceptor};

const BODY: &str = "{\"state\": \"sent\"}";

async fn serve(acceptor: TlsAcceptor, stream: tokio::net::TcpStream) -> std::io::Result<()> {
    let mut tls = acceptor.accept(stream).await?;
    let (mut have, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let size = tls.read(&mut buffer).await?;
        if size == 0 {
            return tls.shutdown().await;
        }
        have.extend_from_slice(&buffer[..size]);
        while let Some(end) = have.windows(4).position(|four| four == b"\r\n\r\n") {
            let status = if have.starts_with(b"GET /missing/") { "404 Not Found" } else { "200 OK" };
            have.drain(..end + 4);
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", BODY.len());
            let mut sent = 0;
            while sent < head.len() {
                let parts = [IoSlice::new(&head.as_bytes()[sent..]), IoSlice::new(BODY.as_bytes())];
                sent += tls.write_vectored(&parts).await?;
            }
            tls.write_all(&BODY.as_bytes()[sent - head.len()..]).await?;
            tls.flush().await?;
        }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let open = |path: &String| BufReader::new(File::open(path).unwrap());
    let certificates = rustls_pemfile::certs(&mut open(&arguments[2])).map(|one| one.unwrap()).collect();
    let key = rustls_pemfile::private_key(&mut open(&arguments[3])).unwrap().unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_io().build().unwrap().block_on(async {
        let listener = tokio::net::TcpListener::bind((arguments[1].as_str(), 0)).await.unwrap();
        println!("{{\"event\": \"ready\", \"port\": {}}}", listener.local_addr().unwrap().port());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move { let _ = serve(acceptor, stream).await; });
        }
    });
}
