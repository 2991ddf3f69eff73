//! Where the bytes of a slice are, when others hold the tensor in slices of their own.
//!
//! The tensor is cut evenly along each dimension, which gives a grid of pieces, numbered row by row. What is wanted is a
//! range of each dimension. Its bytes, row by row, are runs of bytes of the pieces.

use std::ops::Range;

/// A slice that is wanted of a tensor in pieces.
#[derive(Clone, Debug)]
pub(super) struct Gather {
    /// Of each dimension: its extent, into how many pieces it is cut, and what is wanted.
    dims: Vec<(usize, usize, Range<usize>)>,
    /// Bytes of an element.
    element: usize,
}

impl Gather {
    pub(super) fn new(shape: &[usize], cuts: &[usize], wanted: &[Range<usize>], element: usize) -> Gather {
        let dims = shape.iter().zip(cuts).zip(wanted);
        let mut dims: Vec<_> = dims.map(|((extent, cuts), wanted)| (*extent, *cuts, wanted.clone())).collect();
        let mut element = element;
        // Rows that are whole on both sides are one large element.
        while let Some((extent, 1, wanted)) = dims.last() {
            if *wanted != (0..*extent) {
                break;
            }
            element *= extent;
            dims.pop();
        }
        Gather { dims, element }
    }

    /// How many bytes are wanted.
    pub(super) fn bytes(&self) -> usize {
        bytes(&self.dims, self.element)
    }

    /// Calls back with the number of a piece and a range of its bytes, in the order of what is wanted, of which it is the
    /// bytes `within`.
    pub(super) fn runs<E>(
        &self,
        within: Range<usize>,
        take: &mut impl FnMut(usize, Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        runs(&self.dims, self.element, (0, 0), within, take)
    }
}

/// Bytes that are wanted below some dimensions.
fn bytes(dims: &[(usize, usize, Range<usize>)], element: usize) -> usize {
    dims.iter().map(|(.., wanted)| wanted.len()).product::<usize>() * element
}

/// Below the dimensions so far, at `number` of their pieces and element `at` of that.
fn runs<E>(
    dims: &[(usize, usize, Range<usize>)],
    element: usize,
    (number, at): (usize, usize),
    within: Range<usize>,
    take: &mut impl FnMut(usize, Range<usize>) -> Result<(), E>,
) -> Result<(), E> {
    let Some(((extent, cuts, wanted), inner)) = dims.split_first() else {
        let from = at * element;
        return take(number, from + within.start..from + within.end);
    };
    let piece = extent / cuts;
    if !inner.is_empty() {
        let each = bytes(inner, element).max(1);
        return (within.start / each..within.end.div_ceil(each)).try_for_each(|nth| {
            let (i, before) = (wanted.start + nth, nth * each);
            let within = within.start.max(before) - before..within.end.min(before + each) - before;
            runs(inner, element, (number * cuts + i / piece, at * piece + i % piece), within, take)
        });
    }
    let piece = piece * element;
    let first = wanted.start * element;
    let (mut start, last) = (first + within.start, first + within.end);
    while start < last {
        let which = start / piece;
        let end = last.min((which + 1) * piece);
        let from = at * piece + start % piece;
        take(number * cuts + which, from..from + end - start)?;
        start = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: &[usize], cuts: &[usize], wanted: &[Range<usize>], expect: &[(usize, Range<usize>)]) {
        let gather = Gather::new(shape, cuts, wanted, 2);
        let found = runs(&gather, 0..gather.bytes());
        assert_eq!(found, expect);
        // In two parts, wherever they meet, it is the same bytes.
        let single = |runs: Vec<(usize, Range<usize>)>| -> Vec<(usize, usize)> {
            runs.into_iter().flat_map(|(number, range)| range.map(move |byte| (number, byte))).collect()
        };
        for middle in 0..=gather.bytes() {
            let parts = [runs(&gather, 0..middle), runs(&gather, middle..gather.bytes())].concat();
            assert_eq!(single(parts), single(expect.to_vec()), "{middle}");
        }
    }

    fn runs(gather: &Gather, within: Range<usize>) -> Vec<(usize, Range<usize>)> {
        let mut found = Vec::new();
        let all = gather.runs(within, &mut |number, range| {
            found.push((number, range));
            Ok::<_, ()>(())
        });
        all.unwrap();
        found
    }

    #[test]
    fn runs_are_as_long_as_they_can_be() {
        check(&[], &[], &[], &[(0, 0..2)]);
        check(&[4, 8], &[1, 1], &[0..4, 0..8], &[(0, 0..64)]);
        check(&[4, 8], &[1, 1], &[1..3, 0..8], &[(0, 16..48)]);
        check(&[4, 8], &[2, 1], &[0..4, 0..8], &[(0, 0..32), (1, 0..32)]);
        check(&[4, 8], &[2, 1], &[1..3, 0..8], &[(0, 16..32), (1, 0..16)]);
        // Columns of two ranks become rows of one.
        check(&[2, 8], &[1, 2], &[1..2, 0..8], &[(0, 8..16), (1, 8..16)]);
        check(&[2, 8], &[2, 2], &[0..2, 2..6], &[(0, 4..8), (1, 0..4), (2, 4..8), (3, 0..4)]);
    }
}
