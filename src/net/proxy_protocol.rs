//! The PROXY protocol, version 2: a header in front of a connection that says which client it is for.
//!
//! Input: the bytes at the beginning of a connection, or the address of a client. Output: what the header says, or the header.
//! Invariant: nothing is taken from a header of which any part is wrong. The format is that of the HAProxy project
//! (`doc/proxy-protocol.txt`, section 2.2).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The bytes that every header has: signature, version and command, family and transport, length of the rest.
pub(crate) const FIXED: usize = 16;
/// The longest header that is read, in bytes, with everything in it.
pub(crate) const MAX_HEADER: usize = 4096;

/// No request of HTTP and no record of TLS begins like this.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2: u8 = 0x20;
const LOCAL: u8 = 0x0;
const PROXY: u8 = 0x1;
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
/// Two addresses and two ports.
const IPV4_BLOCK: usize = 12;
const IPV6_BLOCK: usize = 36;
/// Two paths.
const UNIX_BLOCK: usize = 216;

/// Whom a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// A client with this address.
    Client(IpAddr),
    /// A client without an address, or one that the proxy does not know.
    Unknown,
    /// The proxy itself, for a health check.
    Proxy,
}

/// What is wrong at the beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// It does not begin with a header.
    Missing,
    /// It begins with one of version 1.
    Version1,
    /// The header is of a version that does not exist.
    Version,
    /// It asks for something that does not exist.
    Command,
    /// Its addresses are neither those of TCP nor of unix sockets.
    Family,
    /// It is longer than [`MAX_HEADER`].
    TooLong,
    /// Its length is not that of what is in it.
    Length,
    /// The connection ended before the header did.
    CutOff,
    /// It was not there in time.
    TimedOut,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the connection does not begin with a header of the PROXY protocol",
            Self::Version1 => "the header is of version 1, and only version 2 is accepted",
            Self::Version => "the header is of an unknown version",
            Self::Command => "the header has an unknown command",
            Self::Family => {
                "the header has an address family other than TCP over IPv4, TCP over IPv6 and unix"
            }
            Self::TooLong => "the header is longer than 4096 bytes",
            Self::Length => "the length in the header is wrong",
            Self::CutOff => "the connection ended within the header",
            Self::TimedOut => "the header did not come within `header_timeout`",
        })
    }
}

/// The first [`FIXED`] bytes of a header.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    command: u8,
    family: u8,
    rest: usize,
}

impl Fixed {
    /// Whether `bytes` can still become a header.
    ///
    /// # Errors
    /// They cannot, whatever follows.
    pub(crate) fn check_beginning(bytes: &[u8]) -> Result<(), HeaderFault> {
        const VERSION_1: &[u8] = b"PROXY ";
        let compared = bytes.len().min(SIGNATURE.len());
        if bytes[..compared] == SIGNATURE[..compared] {
            return Ok(());
        }
        let compared = bytes.len().min(VERSION_1.len());
        Err(match bytes[..compared] == VERSION_1[..compared] {
            true => HeaderFault::Version1,
            false => HeaderFault::Missing,
        })
    }

    /// Reads the first bytes.
    ///
    /// # Errors
    /// What is wrong in them.
    pub fn parse(bytes: [u8; FIXED]) -> Result<Self, HeaderFault> {
        Self::check_beginning(&bytes)?;
        let [.., version_and_command, family, high, low] = bytes;
        if version_and_command & 0xf0 != VERSION_2 {
            return Err(HeaderFault::Version);
        }
        let rest = usize::from(u16::from_be_bytes([high, low]));
        if FIXED + rest > MAX_HEADER {
            return Err(HeaderFault::TooLong);
        }
        let command = version_and_command & 0x0f;
        if command > PROXY {
            return Err(HeaderFault::Command);
        }
        Ok(Self {
            command,
            family,
            rest,
        })
    }

    /// How many bytes of the header follow, at most [`MAX_HEADER`] with the first ones.
    #[must_use]
    pub fn rest(&self) -> usize {
        self.rest
    }

    /// What the header says, which ends with `rest`.
    ///
    /// # Errors
    /// What is wrong in it.
    pub fn announced(&self, rest: &[u8]) -> Result<Announced, HeaderFault> {
        if rest.len() != self.rest {
            return Err(HeaderFault::Length);
        }
        // The rest of such a header is ignored, its family too.
        if self.command == LOCAL {
            return Ok(Announced::Proxy);
        }
        let (block, client) = match self.family {
            UNSPECIFIED => return Ok(Announced::Unknown),
            TCP_OVER_IPV4 => {
                let source = rest.first_chunk::<4>().ok_or(HeaderFault::Length)?;
                (IPV4_BLOCK, Announced::Client(Ipv4Addr::from(*source).into()))
            }
            TCP_OVER_IPV6 => {
                let source = rest.first_chunk::<16>().ok_or(HeaderFault::Length)?;
                let source = IpAddr::from(Ipv6Addr::from(*source));
                (IPV6_BLOCK, Announced::Client(source.to_canonical()))
            }
            UNIX_STREAM => (UNIX_BLOCK, Announced::Unknown),
            _ => return Err(HeaderFault::Family),
        };
        let further = rest.get(block..).ok_or(HeaderFault::Length)?;
        check_vectors(further)?;
        Ok(match client {
            Announced::Client(ip) if ip.is_unspecified() => Announced::Unknown,
            client => client,
        })
    }
}

/// Whether `bytes` are whole type-length-value vectors. Their values mean nothing here.
fn check_vectors(mut bytes: &[u8]) -> Result<(), HeaderFault> {
    while let Some(([_, high, low], value)) = bytes.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        bytes = value.get(length..).ok_or(HeaderFault::Length)?;
    }
    match bytes {
        [] => Ok(()),
        _ => Err(HeaderFault::Length),
    }
}

/// The header in front of a connection for this. The port of the client is not known, and neither is the address that it
/// connected to: both are zero.
#[must_use]
pub(crate) fn header(announced: Announced) -> Vec<u8> {
    let (command, family, source, block) = match announced {
        Announced::Proxy => (LOCAL, UNSPECIFIED, Vec::new(), 0),
        Announced::Unknown => (PROXY, UNSPECIFIED, Vec::new(), 0),
        Announced::Client(IpAddr::V4(ip)) => (PROXY, TCP_OVER_IPV4, ip.octets().to_vec(), IPV4_BLOCK),
        Announced::Client(IpAddr::V6(ip)) => (PROXY, TCP_OVER_IPV6, ip.octets().to_vec(), IPV6_BLOCK),
    };
    let mut header = SIGNATURE.to_vec();
    header.extend([VERSION_2 | command, family]);
    header.extend(u16::try_from(block).unwrap_or_default().to_be_bytes());
    header.extend(source);
    header.resize(FIXED + block, 0);
    header
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(bytes: &[u8]) -> Result<Announced, HeaderFault> {
        let (fixed, rest) = bytes.split_first_chunk().ok_or(HeaderFault::CutOff)?;
        Fixed::parse(*fixed)?.announced(rest)
    }

    fn with(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn header_that_was_written_is_read_again() {
        for client in ["192.0.2.1", "2001:db8::1"] {
            let announced = Announced::Client(client.parse().unwrap());
            assert_eq!(read(&header(announced)), Ok(announced));
        }
        assert_eq!(read(&header(Announced::Proxy)), Ok(Announced::Proxy));
        assert_eq!(read(&header(Announced::Unknown)), Ok(Announced::Unknown));
        assert_eq!(
            header(Announced::Client("1.2.3.4".parse().unwrap())),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\0\0\0\0\0\0\0\0"
        );
    }

    #[test]
    fn mapped_and_unspecified_addresses_are_what_they_mean() {
        let mut mapped = "::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets().to_vec();
        mapped.resize(IPV6_BLOCK, 0);
        let client = Announced::Client("192.0.2.1".parse().unwrap());
        assert_eq!(read(&with(0x21, 0x21, &mapped)), Ok(client));
        assert_eq!(read(&with(0x21, 0x11, &[0; IPV4_BLOCK])), Ok(Announced::Unknown));
    }

    #[test]
    fn header_with_any_wrong_part_is_refused() {
        let block = [7; IPV4_BLOCK];
        let after = |further: &[u8]| [&block[..], further].concat();
        for (bytes, fault) in [
            (with(0x11, 0x11, &block), HeaderFault::Version),
            (with(0x31, 0x11, &block), HeaderFault::Version),
            (with(0x22, 0x11, &block), HeaderFault::Command),
            (with(0x21, 0x12, &block), HeaderFault::Family),
            (with(0x21, 0x41, &block), HeaderFault::Family),
            (with(0x21, 0x11, &block[..11]), HeaderFault::Length),
            (with(0x21, 0x21, &[7; IPV6_BLOCK - 1]), HeaderFault::Length),
            (with(0x21, 0x31, &[7; UNIX_BLOCK - 1]), HeaderFault::Length),
            (with(0x21, 0x11, &after(&[4])), HeaderFault::Length),
            (with(0x21, 0x11, &after(&[4, 0])), HeaderFault::Length),
            (with(0x21, 0x11, &after(&[4, 0, 2, 0])), HeaderFault::Length),
            (
                with(0x21, 0x11, &[0; MAX_HEADER - FIXED + 1]),
                HeaderFault::TooLong,
            ),
            (b"PROXY TCP4 1.2.3.4 ".to_vec(), HeaderFault::Version1),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), HeaderFault::Missing),
        ] {
            assert_eq!(read(&bytes), Err(fault), "{bytes:?}");
        }
        let whole = with(0x21, 0x11, &after(&[4, 0, 2, 0, 0, 3, 0, 0]));
        assert_eq!(read(&whole), Ok(Announced::Client("7.7.7.7".parse().unwrap())));
    }

    #[test]
    fn family_and_addresses_of_a_local_header_are_ignored() {
        for rest in [&[][..], &[1, 2, 3], &[0; 100]] {
            assert_eq!(read(&with(0x20, 0x55, rest)), Ok(Announced::Proxy));
        }
    }

    #[test]
    fn beginning_that_cannot_become_a_header_is_known_at_its_first_byte() {
        let whole = header(Announced::Proxy);
        for length in 0..FIXED {
            assert_eq!(Fixed::check_beginning(&whole[..length]), Ok(()));
        }
        assert_eq!(Fixed::check_beginning(b"P"), Err(HeaderFault::Version1));
        assert_eq!(Fixed::check_beginning(b"G"), Err(HeaderFault::Missing));
        assert_eq!(Fixed::check_beginning(b"\x16"), Err(HeaderFault::Missing));
        assert_eq!(Fixed::check_beginning(b"\r\n\r\nG"), Err(HeaderFault::Missing));
    }
}
