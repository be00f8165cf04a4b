// SPDX-License-Identifier: MIT OR Apache-2.0
//! Host memory whose size a caller or a file chose: what the system refuses is an error with the
//! size, where a plain `vec!` would end the program.

use crate::{Error, Result};

/// An empty vector with room for `count` elements of `what` it is for.
///
/// # Errors
/// [`Error::Device`] with the size if the system refuses it.
pub(crate) fn room<T>(count: usize, what: &str) -> Result<Vec<T>> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(count).map_err(|_| refused::<T>(count, what))?;
    Ok(vector)
}

/// `count` zeros.
///
/// # Errors
/// As [`room`].
pub(crate) fn zeros<T: Clone + Default>(count: usize, what: &str) -> Result<Vec<T>> {
    let mut vector = room(count, what)?;
    vector.resize(count, T::default());
    Ok(vector)
}

/// Asks for `bytes` and gives them back: for work that allocates as it goes and cannot fail.
///
/// # Errors
/// As [`room`].
pub(crate) fn probe(bytes: usize, what: &str) -> Result<()> {
    room::<u8>(bytes, what).map(drop)
}

/// Why there is no vector of `count` elements.
pub(crate) fn refused<T>(count: usize, what: &str) -> Error {
    let bytes = count as u128 * std::mem::size_of::<T>() as u128;
    let message = format!("cannot reserve {bytes} bytes for {what}");
    Error::Device { device: "cpu".into(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_how_much_was_asked_for() {
        for (count, bytes) in
            [(1 << 59, "2305843009213693952"), (usize::MAX, "73786976294838206460")]
        {
            let error = zeros::<f32>(count, "a test").unwrap_err().to_string();
            assert_eq!(error, format!("cpu: cannot reserve {bytes} bytes for a test"));
        }
        assert_eq!(zeros::<f32>(3, "a test").unwrap(), [0.0; 3]);
    }
}
