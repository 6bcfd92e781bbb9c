//! Addresses that limits are for.

use std::net::{IpAddr, Ipv6Addr};

/// What a limit counts as one address: an IPv6 network hands a whole /64 to one customer.
pub fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let s = v6.segments();
            IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0))
        }
        v4 => v4,
    }
}
