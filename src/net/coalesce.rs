//! Small writes in one piece: for the system one buffer is cheaper than a list of two short ones.
//!
//! Input: the slices of one write. Output: one buffer, or nothing where a copy costs more than the list.

use std::io::IoSlice;

/// The most that is copied together, in bytes: the head of a message and a short body.
pub(crate) const ROOM: usize = 1024;

/// What `slices` hold in one piece: the only one that is not empty, or all of them copied into `room`. `None` where they
/// are too long to be worth a copy. As many bytes of the piece as are written are written of the slices.
pub(crate) fn coalesce<'a>(slices: &'a [IoSlice<'_>], room: &'a mut [u8; ROOM]) -> Option<&'a [u8]> {
    let mut filled = slices.iter().filter(|slice| !slice.is_empty());
    let first = filled.next()?;
    if filled.next().is_none() {
        return Some(first);
    }
    let total = slices
        .iter()
        .try_fold(0_usize, |sum, slice| sum.checked_add(slice.len()))?;
    if total > ROOM {
        return None;
    }
    let mut end = 0;
    for slice in slices {
        room[end..end + slice.len()].copy_from_slice(slice);
        end += slice.len();
    }
    Some(&room[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_come_in_their_order_or_not_at_all() {
        let gathered = |parts: &[&[u8]]| {
            let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
            coalesce(&slices, &mut [0; ROOM]).map(<[u8]>::to_vec)
        };
        let long = vec![b'x'; ROOM + 1];
        assert_eq!(gathered(&[b"ab", b"", b"cd"]), Some(b"abcd".to_vec()));
        assert_eq!(gathered(&[b"", b"ab", b""]), Some(b"ab".to_vec()));
        assert_eq!(gathered(&[&long]), Some(long.clone()), "one alone is not copied");
        assert_eq!(gathered(&[&long[1..], b""]), Some(long[1..].to_vec()));
        assert_eq!(gathered(&[&long[2..], b"y"]).map(|all| all.len()), Some(ROOM));
        assert_eq!(gathered(&[&long[1..], b"y"]), None);
        assert_eq!(gathered(&[]), None);
        assert_eq!(gathered(&[b"", b""]), None);
    }
}
