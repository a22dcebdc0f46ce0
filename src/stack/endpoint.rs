//! How a port of a container is reached from here.

use std::net::SocketAddr;
use std::time::Duration;

use bollard::container::LogOutput;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::error::{Error, Result};
use crate::stack::docker::Engine;
use crate::stack::docker::objects::Container;

/// Runs in the container and joins its standard streams to a port of its own.
/// LAVA is Python, so every image of a LAVA server can do this.
const JOIN: &str = "
import os, socket, sys, threading
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
def feed():
    while True:
        data = os.read(0, 65536)
        if not data:
            break
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=feed, daemon=True).start()
while True:
    data = s.recv(65536)
    if not data:
        break
    while data:
        data = data[os.write(1, data):]
os._exit(0)
";

/// An address on this machine that leads to a port of a container.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    /// Takes the connections where the engine's machine is another one.
    tunnel: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(tunnel) = &self.tunnel {
            tunnel.abort();
        }
    }
}

impl Endpoint {
    /// The way to `port` of a container: where it is published on 127.0.0.1,
    /// if that is this machine; else a tunnel of execs through the engine.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the port is not published, or no tunnel can be made.
    pub async fn to(engine: &Engine, container: &Container, port: u16) -> Result<Self> {
        if !published_here(&engine.host().address) {
            return Self::tunnel(engine, &container.id, port).await;
        }
        let published = container.ports.get(&port).ok_or_else(|| {
            Error::infrastructure(format!(
                "container {} ({}) does not publish its port {port}",
                container.name, container.status
            ))
        })?;
        Ok(Self { address: SocketAddr::from(([127, 0, 0, 1], *published)), tunnel: None })
    }

    async fn tunnel(engine: &Engine, container: &str, port: u16) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::failed(format!("make a tunnel to port {port} of {container}"), error)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (engine, container) = (engine.clone(), container.to_owned());
        let tunnel = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let (engine, container) = (engine.clone(), container.clone());
                connections.spawn(async move {
                    if let Err(error) = join(&engine, &container, port, stream).await {
                        tracing::debug!(%error, "a tunnelled connection broke");
                    }
                });
            }
        });
        Ok(Self { address, tunnel: Some(tunnel) })
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Whether what an engine publishes on its 127.0.0.1 is on ours.
fn published_here(engine: &str) -> bool {
    if std::env::var_os("META_LAVA_TUNNEL").is_some_and(|value| value == "1") {
        return false;
    }
    let Some((_, rest)) = engine.split_once("://") else { return false };
    engine.starts_with("unix://")
        || ["127.0.0.1:", "localhost:", "[::1]:"].iter().any(|host| rest.starts_with(host))
}

/// Carries one connection.
async fn join(engine: &Engine, container: &str, port: u16, stream: TcpStream) -> Result<()> {
    let running = engine.start_exec(container, &["python3", "-c", JOIN, &port.to_string()], true).await?;
    let (mut input, mut output) = (running.input, running.output);
    let (mut from, mut to) = stream.into_split();
    let there = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count) = from.read(&mut buffer).await {
            if count == 0 || input.write_all(&buffer[..count]).await.is_err() || input.flush().await.is_err()
            {
                break;
            }
        }
        let _ = input.shutdown().await;
        // Closed on this side; the answer may still be on its way.
        tokio::time::timeout(Duration::from_secs(60), std::future::pending::<()>()).await
    };
    let back = async {
        while let Some(Ok(chunk)) = output.next().await {
            match chunk {
                LogOutput::StdErr { message } => {
                    tracing::debug!(said = %String::from_utf8_lossy(&message), "tunnel");
                }
                other => {
                    if to.write_all(&other.into_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::select! {
        _ = there => {}
        () = back => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_engine_on_this_machine_publishes_here() {
        assert!(published_here("unix:///var/run/docker.sock"));
        assert!(published_here("tcp://127.0.0.1:2375"));
        assert!(!published_here("tcp://docker:2375"));
        assert!(!published_here("nonsense"));
    }
}
