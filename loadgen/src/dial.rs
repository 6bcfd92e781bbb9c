//! Sockets towards the server, from several source addresses.
//!
//! One (source, destination) pair has about 28,000 ephemeral ports, and those of an earlier run wait a minute in TIME_WAIT; all of 127.0.0.0/8
//! is this machine, so a second address is a second range of ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// The address a connection comes from: one of `sources` from 127.0.0.2 + `first` on towards a loopback server, else the system's choice.
pub fn source(target: SocketAddr, first: u32, index: u32, sources: u8) -> Option<SocketAddr> {
    match target.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => {
            let last = 2 + ((first + index % u32::from(sources)) % 253) as u8;
            Some(SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), 0))
        }
        _ => None,
    }
}

/// Begins to connect; the socket is writable once it has, or has an error. `buffer`: bytes the kernel takes in before it is read.
pub fn dial(target: SocketAddr, source: Option<SocketAddr>, buffer: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        socket.bind(&source.into())?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}
