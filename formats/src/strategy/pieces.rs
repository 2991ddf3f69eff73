//! Which piece of a parameter a rank holds: arithmetic on a [`Layout`] alone.
//!
//! A rank's number in its stage is written in the mixed radix of `dev_matrix`, the last axis fastest. Along the axes that
//! cut a dimension, the rank's digits count its piece. Where the optimizer's ranks share a parameter, they cut its first
//! dimension again, inside of that piece, along the axes that nothing else uses, from the right.

use super::Layout;

/// One of `of` equal parts of a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Piece {
    /// Which, from 0.
    pub index: u32,
    /// Of how many.
    pub of: u32,
}

impl Piece {
    /// All of a dimension.
    pub const WHOLE: Piece = Piece { index: 0, of: 1 };

    /// Whether another piece of the same dimension has something of this one.
    pub fn overlaps(self, other: Piece) -> bool {
        let wide = |number: u32| u64::from(number);
        let begins_before_end =
            |one: Piece, other: Piece| wide(one.index) * wide(other.of) < (wide(other.index) + 1) * wide(one.of);
        begins_before_end(self, other) && begins_before_end(other, self)
    }
}

impl Layout {
    /// Ranks of the stage.
    pub fn devices(&self) -> u32 {
        self.dev_matrix.iter().product()
    }

    /// A rank's place along each axis of `dev_matrix`.
    pub fn coordinates(&self, rank: u32) -> Vec<u32> {
        let mut rest = rank;
        let mut places: Vec<u32> = self.dev_matrix.iter().rev().map(|axis| digit(&mut rest, *axis)).collect();
        places.reverse();
        places
    }

    /// What a rank of the stage holds of each dimension.
    pub fn pieces(&self, rank: u32) -> Vec<Piece> {
        let places = self.coordinates(rank);
        let at = |axis: u32| self.dev_matrix.len() - 1 - axis as usize;
        let cut = |piece: Piece, axis: &u32| {
            let extent = self.dev_matrix[at(*axis)];
            Piece { index: piece.index * extent + places[at(*axis)], of: piece.of * extent }
        };
        let of_dimension = |axes: &Vec<u32>| axes.iter().fold(Piece::WHOLE, cut);
        let mut pieces: Vec<Piece> = self.tensor_map.iter().map(of_dimension).collect();
        if let (Some(first), Some(shared)) = (pieces.first_mut(), self.shared(&places)) {
            *first = Piece { index: first.index * shared.of + shared.index, of: first.of * shared.of };
        }
        pieces
    }

    /// Which part of its piece a rank holds for the optimizer.
    fn shared(&self, places: &[u32]) -> Option<Piece> {
        let mut left = self.group()?;
        let mut shared = Piece::WHOLE;
        for at in self.free_axes() {
            // Of the last axis, only as much as is left of the group.
            let taken = self.dev_matrix[at].min(left);
            shared = Piece { index: shared.index + places[at] % taken * shared.of, of: shared.of * taken };
            left /= taken;
        }
        Some(shared)
    }

    /// How many ranks share a piece for the optimizer.
    fn group(&self) -> Option<u32> {
        let all = || self.free_axes().map(|at| self.dev_matrix[at]).product();
        self.optimizer_shard.map(|shard| shard.size.unwrap_or_else(all))
    }

    /// Places in `dev_matrix` of axes along which ranks would hold equal pieces, from the right.
    fn free_axes(&self) -> impl Iterator<Item = usize> + '_ {
        let used = |axis: usize| self.tensor_map.iter().flatten().any(|used| *used as usize == axis);
        let axes = self.dev_matrix.len();
        (0..axes).filter(move |axis| !used(*axis)).map(move |axis| axes - 1 - axis)
    }

    /// What is wrong with how the optimizer's ranks share it, if something is.
    pub(super) fn check_group(&self) -> Option<String> {
        let group = self.group()?;
        if self.tensor_map.is_empty() {
            return Some("is shared by the optimizer's ranks and has no dimension".to_owned());
        }
        let mut left = group;
        for at in self.free_axes() {
            let axis = self.dev_matrix[at];
            let taken = axis.min(left);
            if axis % taken != 0 || left % taken != 0 {
                break;
            }
            left /= taken;
        }
        let free: u32 = self.free_axes().map(|at| self.dev_matrix[at]).product();
        (left != 1).then(|| {
            format!("is shared by groups of {group} of the optimizer's ranks, and {free} would hold equal pieces")
        })
    }
}

fn digit(rest: &mut u32, radix: u32) -> u32 {
    let digit = *rest % radix;
    *rest /= radix;
    digit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::OptimizerShard;

    fn layout(devices: &[u32], map: &[i32], shard: Option<(u32, Option<u32>)>) -> Layout {
        let map = map.iter().map(|axis| u32::try_from(*axis).into_iter().collect()).collect();
        let shard = shard.map(|(step, size)| OptimizerShard { step, size });
        Layout::new(devices.to_vec(), map, shard)
    }

    /// Pieces of the first dimension, by rank.
    fn check(layout: Layout, of: u32, expect: &[u32]) {
        let found: Vec<Piece> = (0..layout.devices()).map(|rank| layout.pieces(rank)[0]).collect();
        let expect: Vec<Piece> = expect.iter().map(|index| Piece { index: *index, of }).collect();
        assert_eq!(found, expect, "{layout:?}");
    }

    /// What MindSpore's own transformations give for each of these.
    #[test]
    fn ranks_hold_what_mindspore_says() {
        check(layout(&[2, 2], &[0, -1], None), 2, &[0, 1, 0, 1]);
        check(layout(&[2, 2], &[1, -1], None), 2, &[0, 0, 1, 1]);
        check(layout(&[2, 2], &[0, -1], Some((2, None))), 4, &[0, 2, 1, 3]);
        check(layout(&[2, 2], &[-1, 0], Some((2, None))), 2, &[0, 0, 1, 1]);
        check(layout(&[4, 2], &[0, -1], Some((2, Some(2)))), 4, &[0, 2, 1, 3, 0, 2, 1, 3]);
        check(layout(&[2], &[-1, -1], Some((1, None))), 2, &[0, 1]);
        check(layout(&[2, 4], &[1, -1], Some((1, None))), 8, &[0, 1, 2, 3, 4, 5, 6, 7]);
        check(layout(&[1], &[-1], None), 1, &[0]);
        assert_eq!(layout(&[2, 2], &[], None).pieces(3), []);
        let several = Layout::new(vec![2, 2], vec![vec![0, 1], vec![]], None);
        check(several, 4, &[0, 2, 1, 3]);
    }

    /// Every rank holds something, all together hold all, and equal pieces are equally many.
    #[test]
    fn pieces_cover_a_parameter_evenly() {
        for layout in [
            layout(&[2, 3, 4], &[1, -1, 0], Some((12, None))),
            layout(&[4, 2, 3], &[0, -1], Some((3, Some(4)))),
            layout(&[3, 2], &[1, 0], None),
        ] {
            assert_eq!(layout.check_group(), None);
            let mut held: Vec<Vec<Piece>> = (0..layout.devices()).map(|rank| layout.pieces(rank)).collect();
            let pieces: u32 = held[0].iter().map(|piece| piece.of).product();
            held.sort();
            let copies = held.chunk_by(|one, other| one == other).map(<[_]>::len);
            let copies: Vec<usize> = copies.collect();
            assert_eq!(copies, vec![(layout.devices() / pieces) as usize; pieces as usize], "{layout:?}");
        }
    }

    #[test]
    fn groups_that_cannot_be_are_told() {
        for (devices, map, size) in
            [(&[2, 2][..], &[0][..], 4), (&[4, 2], &[0], 3), (&[4, 3], &[-1], 5), (&[2], &[0], 2)]
        {
            let wrong = layout(devices, map, Some((1, Some(size)))).check_group().unwrap_or_default();
            assert!(wrong.contains(&format!("groups of {size}")), "{devices:?} {map:?} {size}: {wrong}");
        }
    }

    #[test]
    fn pieces_overlap_where_they_have_something_in_common() {
        let piece = |index, of| Piece { index, of };
        assert!(piece(0, 2).overlaps(Piece::WHOLE) && piece(1, 4).overlaps(piece(0, 2)));
        assert!(!piece(2, 4).overlaps(piece(0, 2)) && !piece(1, 2).overlaps(piece(0, 2)));
        assert!(piece(1, 3).overlaps(piece(0, 2)) && piece(1, 3).overlaps(piece(1, 2)));
    }
}
