//! Headers of the PROXY protocol: a header is taken whole or not at all, and what it says does not depend on what follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use passgate::internals::net::proxy_protocol::{Announced, Fixed};

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first_chunk() else {
        return;
    };
    let Ok(fixed) = Fixed::parse(*first) else { return };
    assert!(first.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    assert!(16 + fixed.rest() <= 4096, "a header without a limit");
    if rest.len() != fixed.rest() {
        assert!(fixed.announced(rest).is_err(), "a header of another length");
    }
    let Some(whole) = rest.get(..fixed.rest()) else {
        return;
    };
    match fixed.announced(whole) {
        Ok(Announced::Client(ip)) => {
            assert!(!ip.is_unspecified());
            let bytes = match ip {
                std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
                std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let is_there = |length: usize| whole[..length].ends_with(&bytes);
            assert!(is_there(4) || is_there(16), "{ip} is not in the header");
        }
        Ok(Announced::Proxy) => assert_eq!(first[12], 0x20),
        Ok(Announced::Unknown) => assert_eq!(first[12], 0x21),
        Err(_) => {}
    }
});
