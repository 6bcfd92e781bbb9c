//! What is asked of the machine once, at start: chance, ports, processors, pages, open files.

use super::Error;
use crate::data_plane;
use std::{
    io,
    net::{SocketAddr, TcpListener},
};

pub fn entropy<const BYTES: usize>() -> Result<[u8; BYTES], Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Error::Entropy(error.to_string()))?;
    Ok(bytes)
}

/// `count` listeners on one address. `takeover`: another process of ours may listen there too.
pub fn listen(address: SocketAddr, key: &'static str, count: u8, takeover: bool) -> Result<Vec<TcpListener>, Error> {
    let wrong = |error| Error::Listen { address, key, error };
    match data_plane::probe(address) {
        Err(error) if takeover && error.kind() == io::ErrorKind::AddrInUse => {
            tracing::info!(%address, "another process listens here too, until it is told to end");
        }
        probed => probed.map_err(wrong)?,
    }
    data_plane::listen(address, count.into()).map_err(wrong)
}

/// The processors this process may run on, in their order; never empty.
pub fn cpus() -> Result<Vec<usize>, Error> {
    // SAFETY: an all-zero set is an empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours and its size is passed along.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return Err(Error::Affinity(io::Error::last_os_error()));
    }
    // SAFETY: only reads the set; the index is below its size.
    let cpus: Vec<usize> =
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect();
    if cpus.is_empty() { Err(Error::Affinity(io::ErrorKind::NotFound.into())) } else { Ok(cpus) }
}

/// Has the kernel back this process with ordinary pages only; to be called before there is much memory. Thousands of small pieces that
/// come and go leave most of a huge page (2 MiB) unused, yet resident: 3,390 bytes a connection with them, 2,400 without. Best effort: a kernel that does not know the request (before 3.15) has more memory to show.
pub fn refuse_huge_pages() {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: the call takes numbers and sets a flag of this process.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) };
}

/// Open files up to what the system lets: a connection is one. Best effort; what fails is said when a connection is refused.
pub fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write the struct they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
