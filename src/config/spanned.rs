//! A value and its place in the file, for messages about it.

use std::ops::{Deref, Range};

/// A value and the bytes of the file that it was read from.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Byte offsets into the source text.
    pub span: Range<usize>,
}

impl<T> Spanned<T> {
    /// `value`, which was read from `span`.
    pub(super) fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
