//! A fake proxy on the way out: answers CONNECT, and passes the bytes on to one server whatever was asked for.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The proxy.
pub struct EgressProxy {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl EgressProxy {
    /// Makes tunnels to `target`.
    pub fn to(target: SocketAddr) -> Self {
        Self::start(move |mut client| {
            let Ok(mut server) = TcpStream::connect(target) else {
                return;
            };
            if client
                .write_all(b"HTTP/1.1 200 Connection established\r\nVia: fake\r\n\r\n")
                .is_err()
            {
                return;
            }
            let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else {
                return;
            };
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from_client, &mut to_server);
                let _ = to_server.shutdown(Shutdown::Write);
            });
            let _ = std::io::copy(&mut server, &mut client);
            let _ = client.shutdown(Shutdown::Both);
        })
    }

    /// Answers with these bytes, and closes.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |mut client| {
            let _ = client.write_all(&bytes);
        })
    }

    fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            heads: Arc::default(),
        };
        let (heads, serve) = (proxy.heads.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let (heads, serve) = (heads.clone(), serve.clone());
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read(&mut byte) {
                            Ok(1) => head.push(byte[0]),
                            _ => return,
                        }
                    }
                    heads
                        .lock()
                        .unwrap()
                        .push(String::from_utf8_lossy(&head).into_owned());
                    serve(stream);
                });
            }
        });
        proxy
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked of it, each as a whole head.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}
