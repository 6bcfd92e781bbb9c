//! The peer `socketioxide`: Socket.IO on tokio and hyper, as its documentation has it, over WebSocket only, on one thread.
//!
//! `join` room, acked · `publish` {room, data}: `event` data to everyone in the room, the publisher included · `echo` data: acked with it.
//! The token in `auth` is taken and not looked at.
//!
//! usage: socketioxide PORT (0: any). Prints `listening PORT PID` once it accepts.

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide::{SocketIo, TransportType};
use std::error::Error;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Deserialize)]
struct Publish {
    room: String,
    data: Value,
}

fn on_connect(io: &SocketIo) {
    let all = io.clone();
    io.ns("/", move |socket: SocketRef, Data::<Value>(_auth)| async move {
        socket.on("join", async |socket: SocketRef, Data::<String>(room), ack: AckSender| {
            socket.join(room);
            ack.send("joined").ok();
        });
        socket.on("publish", move |Data::<Publish>(publish)| async move {
            let Publish { room, data } = publish;
            all.to(room).emit("event", &data).await.ok();
        });
        socket.on("echo", async |Data::<Value>(data), ack: AckSender| {
            ack.send(&data).ok();
        });
    });
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).ok_or("usage: socketioxide PORT")?;
    let (service, io) = SocketIo::builder().transports([TransportType::Websocket]).build_svc();
    on_connect(&io);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening {} {}", listener.local_addr()?.port(), std::process::id());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        tokio::spawn(async move {
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
            if let Err(error) = served.await {
                eprintln!("socketioxide: {error}");
            }
        });
    }
}
