//! The end of a WebSocket that the gateway closes: a Close frame with status 1008 (RFC 6455 sections 5.5.1 and 7.4.1).
//!
//! Input: the bytes of the app on their way to the client. Output: the same bytes; once the connection is to end, the rest
//! of the frame under way, the Close frame, and nothing more. Invariant: the Close frame is between two frames of the app,
//! never inside of one.

/// "Policy violation", which is what browsers and servers know 1008 as, with a word for people.
const CLOSE: &[u8] = b"\x88\x0f\x03\xf0session ended";

/// Follows the frames of one direction.
#[derive(Debug, Default)]
pub(super) struct CloseFrame {
    /// The head of the frame under way, as far as it has come.
    head: [u8; 14],
    have: usize,
    /// Bytes of its payload that are still to come.
    left: u64,
    /// Bytes of [`CLOSE`] that have gone out.
    said: usize,
}

impl CloseFrame {
    /// Notes that `bytes` go by.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let part = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= part as u64;
                bytes = &bytes[part..];
                continue;
            }
            self.head[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have == self.head_length() {
                self.left = self.payload_length();
                self.have = 0;
            }
        }
    }

    /// Where the connection is to end: how many bytes of the app may still go by before it can. 0: none, now is the time.
    pub(super) fn room(&self) -> usize {
        if self.left > 0 {
            usize::try_from(self.left).unwrap_or(usize::MAX)
        } else if self.have > 0 {
            self.head_length() - self.have
        } else {
            0
        }
    }

    /// At most `most` further bytes of the Close frame; empty when all of it has been said.
    pub(super) fn say(&mut self, most: usize) -> &'static [u8] {
        let end = CLOSE.len().min(self.said + most);
        let part = &CLOSE[self.said..end];
        self.said = end;
        part
    }

    /// RFC 6455 section 5.2. Two bytes say how many there are.
    fn head_length(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let extended = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    fn payload_length(&self) -> u64 {
        let big_endian = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        match self.head[1] & 0x7f {
            126 => big_endian(&self.head[2..4]),
            127 => big_endian(&self.head[2..10]),
            length => u64::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x82];
        match u8::try_from(payload) {
            Ok(short) if short < 126 => bytes.push(mask | short),
            _ if payload < 65_536 => {
                bytes.push(mask | 126);
                bytes.extend_from_slice(&u16::try_from(payload).expect("it fits").to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + if masked { 4 } else { 0 } + payload, b'x');
        bytes
    }

    #[test]
    fn the_end_of_a_frame_is_known_however_its_bytes_are_cut() {
        for payload in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for masked in [false, true] {
                let bytes = frame(payload, masked);
                for cut in [1, 2, 3, 7, 9, bytes.len() - 1]
                    .into_iter()
                    .filter(|cut| *cut < bytes.len())
                {
                    let mut frames = CloseFrame::default();
                    frames.pass(&bytes[..cut]);
                    assert!(frames.room() > 0, "{payload} {cut}");
                    assert!(
                        cut + frames.room() <= bytes.len(),
                        "no byte of the next frame: {payload} {cut}"
                    );
                    frames.pass(&bytes[cut..]);
                    assert_eq!(frames.room(), 0, "{payload} {cut}");
                }
            }
        }
        let mut frames = CloseFrame::default();
        frames.pass(&[frame(3, false), frame(200, false), frame(0, false)].concat());
        assert_eq!(frames.room(), 0);
    }

    #[test]
    fn the_close_frame_is_said_once_and_says_its_own_length() {
        let mut frames = CloseFrame::default();
        let said: Vec<u8> = [frames.say(1), frames.say(3), frames.say(100)].concat();
        assert_eq!(said, CLOSE);
        assert_eq!(usize::from(CLOSE[1]), CLOSE.len() - 2);
        assert_eq!(u16::from_be_bytes([CLOSE[2], CLOSE[3]]), 1008);
        assert!(frames.say(100).is_empty());
    }
}
