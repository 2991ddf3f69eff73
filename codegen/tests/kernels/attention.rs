//! Attention over the paged cache, and its writer: against the definition, and the same bits however the rows of a
//! sequence are cut into calls.

use crate::data::{bytes, bytes_i32, error, floats, random, stored};
use crate::{Builds, Cases};
use bloomery_codegen::cpu::hosted::Launch;
use bloomery_codegen::cpu::spec::{AttentionSpec, CacheAppendSpec, Count, Element, Matrix, Spec, Stored};
use bloomery_ir::{DType, Layout};

/// A model's attention: views of append: k, v, kv, rows, pages; of attention: q, kv, rows, pages, slopes, out.
#[derive(Clone, Copy)]
struct Shape {
    element: Element,
    heads: usize,
    d: usize,
}

/// One call: for every sequence (rows given now, rows given before).
type Call<'a> = &'a [(usize, usize)];

/// Pages of each of two sequences, in no order.
const PAGES: [[i32; 3]; 2] = [[4, 0, 2], [5, 1, 3]];
const TOKENS: [usize; 2] = [150, 70];

impl Shape {
    fn scale(&self) -> f32 {
        1.0 / (self.d as f32).sqrt()
    }

    fn append(&self) -> Spec {
        let Shape { element, heads, d } = *self;
        let (k, v) = (Matrix::whole(0, heads * d), Matrix::whole(1, heads * d));
        let kv = Stored { view: 2, element };
        Spec::CacheAppend(CacheAppendSpec {
            heads,
            d,
            k,
            v,
            kv,
            rows: 3,
            pages: 4,
            count: Count::of(0),
            sequences: Count::of(1),
            pages_width: Count::of(2),
            page_tokens: 64,
        })
    }

    fn attention(&self) -> Spec {
        let Shape { element, heads, d } = *self;
        Spec::Attention(AttentionSpec {
            heads,
            d,
            q: Matrix::whole(0, heads * d),
            kv: Stored { view: 1, element },
            rows: 2,
            pages: 3,
            slopes: 4,
            out: Matrix::whole(5, heads * d),
            scale: self.scale(),
            count: Count::of(0),
            sequences: Count::of(1),
            pages_width: Count::of(2),
            page_tokens: 64,
        })
    }

    /// The first so steep that a row sees nothing of what lies two pages back.
    fn slopes(&self) -> Vec<f32> {
        (0..self.heads).map(|head| 2.0 * 0.125f32.powi(head as i32)).collect()
    }

    /// q, k, v of a sequence: [tokens, heads * d].
    fn tokens(&self, sequence: usize) -> [Vec<f32>; 3] {
        [1, 2, 3].map(|i| random(10 * sequence as u64 + i, TOKENS[sequence] * self.heads * self.d))
    }

    fn cache(&self) -> Vec<u8> {
        // A poisoned cache: slots that were never written must not be seen.
        let dtype = if self.element == Element::F32 { DType::F32 } else { DType::F16 };
        let bytes = Layout::CachePages.bytes(&[6, 2, self.heads, 64, self.d], dtype);
        stored(self.element, &vec![f32::NAN; bytes as usize / self.element.bytes()]).0
    }

    /// Rows of a call, put together from the sequences.
    fn rows(&self, call: Call, which: usize) -> Vec<u8> {
        let width = self.heads * self.d;
        let part = |(s, (count, before)): (usize, &(usize, usize))| {
            self.tokens(s)[which][before * width..(before + count) * width].to_vec()
        };
        bytes(&call.iter().enumerate().flat_map(part).collect::<Vec<_>>())
    }

    fn reference(&self, sequence: usize) -> Vec<f64> {
        let (width, d) = (self.heads * self.d, self.d);
        let [q, k, v] = self.tokens(sequence);
        let [k, v] = [k, v].map(|values| stored(self.element, &values).1);
        let mut out = vec![0.0; q.len()];
        for (row, head) in (0..TOKENS[sequence]).flat_map(|row| (0..self.heads).map(move |head| (row, head))) {
            let at = |t: usize| t * width + head * d;
            let dot = |t: usize| (0..d).map(|j| f64::from(q[at(row) + j]) * f64::from(k[at(t) + j])).sum::<f64>();
            let slope = f64::from(self.slopes()[head]);
            let scores: Vec<f64> = (0..=row).map(|t| dot(t) * f64::from(self.scale()) + slope * t as f64).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            for (t, score) in scores.iter().enumerate() {
                for j in 0..d {
                    out[at(row) + j] += (score - top).exp() / sum * f64::from(v[at(t) + j]);
                }
            }
        }
        out
    }
}

fn tables(call: Call) -> (Vec<u8>, Vec<u8>, [u32; 3]) {
    let mut start = 0;
    let mut rows = vec![];
    for (count, before) in call {
        rows.extend([start as i32, *count as i32, *before as i32]);
        start += count;
    }
    let pages: Vec<i32> = PAGES.iter().take(call.len()).flatten().copied().collect();
    (bytes_i32(&rows), bytes_i32(&pages), [start as u32, call.len() as u32, 3])
}

/// The first sequence in one call, in chunks and token by token at the end; both sequences mixed.
const WAYS: &[&[Call<'static>]] = &[
    &[&[(150, 0)]],
    &[&[(150, 0), (70, 0)]],
    &[&[(7, 0), (13, 0)], &[(60, 7), (0, 13)], &[(83, 67), (57, 13)]],
    &[&[(127, 0), (68, 0)], &[(1, 127), (1, 68)], &[(1, 128), (1, 69)], &[(2, 129)], &[(3, 131)], &[(16, 134)]],
];

#[test]
fn rows_have_the_same_bits_in_every_chunk() {
    let shapes = [(4, Element::F32), (4, Element::F16), (16, Element::F32), (64, Element::F16), (80, Element::F32)];
    let shapes = shapes.map(|(d, element)| Shape { element, heads: 2, d });
    let mut cases = Cases::default();
    shapes.iter().for_each(|shape| {
        cases.kernel(&shape.append());
        cases.kernel(&shape.attention());
    });
    let builds = Builds::of(&cases);
    for (i, shape) in shapes.iter().enumerate() {
        let results: Vec<_> = WAYS.iter().map(|way| run(&builds, 2 * i, shape, way)).collect();
        for (way, sequence) in (0..WAYS.len()).flat_map(|way| [(way, 0), (way, 1)]) {
            let result = &results[way][sequence];
            let what = format!("{:?} d {} way {way} sequence {sequence}", shape.element, shape.d);
            if WAYS[way][0].len() > sequence {
                // exp amplifies the rounding of scores, whose size is up to 300.
                let error = error(result, &shape.reference(sequence));
                assert!(error < 4e-5, "{what}: error {error:.1e}");
                assert!(bytes(result) == bytes(&results[1][sequence]), "{what}: bits of its own");
            }
        }
    }
}

#[test]
fn rows_of_no_sequence_are_zeros() {
    let shape = Shape { element: Element::F32, heads: 2, d: 5 };
    let mut cases = Cases::default();
    let kernel = cases.kernel(&shape.attention());
    let width = shape.heads * shape.d;
    // Rows 3..63 and 65..66 have sequences, 0..3, 63..65 and 66..70 have none.
    let rows = bytes_i32(&[65, 1, 0, 3, 60, 0]);
    let cache = stored(shape.element, &vec![1.0; shape.cache().len() / 4]).0;
    let pages = bytes_i32(&PAGES.concat());
    let views = vec![bytes(&vec![1.0; 70 * width]), cache, rows, pages, bytes(&shape.slopes())];
    let views = views.into_iter().chain([bytes(&vec![f32::NAN; 70 * width])]).collect();
    cases.launch(kernel, views, &[70, 2, 3], 1);
    for (i, value) in floats(&cases.run()[0][5]).into_iter().enumerate() {
        let inside = (3..63).contains(&(i / width)) || i / width == 65;
        assert!(if inside { (value - 1.0).abs() < 1e-5 } else { value == 0.0 }, "row {}: {value}", i / width);
    }
}

/// The oldest page is poisoned where it holds what the first head must not read any more.
#[test]
fn pages_that_add_nothing_are_not_read() {
    for element in [Element::F32, Element::F16] {
        let shape = Shape { element, heads: 2, d: 16 };
        let mut cases = Cases::default();
        cases.kernel(&shape.append());
        cases.kernel(&shape.attention());
        let builds = Builds::of(&cases);
        let cache = filled(&builds, &shape);
        let mut poisoned = cache.clone();
        let dtype = if element == Element::F32 { DType::F32 } else { DType::F16 };
        let dims = [6, 2, shape.heads, 64, shape.d];
        for (side, token, j) in (0..2 * 64 * shape.d).map(|i| (i / (64 * shape.d), i / shape.d % 64, i % shape.d)) {
            let at = Layout::CachePages.position(&dims, dtype, &[PAGES[0][0] as usize, side, 0, token, j]);
            bloomery_ir::tensor::write_element(dtype, &mut poisoned, at, f64::NAN);
        }
        // The last row alone, and the last twenty as a block: 150 - 20 - 63 is two steep pages and more.
        for call in [[(1, 149)], [(20, 130)]] {
            let attend = |cache: &[u8]| floats(&attended(&builds, &shape, &call, shape.rows(&call, 0), cache)[5]);
            let (clean, dirty) = (attend(&cache), attend(&poisoned));
            for (i, (clean, dirty)) in clean.iter().zip(&dirty).enumerate().filter(|(i, _)| i / shape.d % 2 == 0) {
                assert!(
                    clean.to_bits() == dirty.to_bits() && clean.is_finite(),
                    "{element:?} {call:?} at {i}: {dirty}"
                );
            }
        }
    }
}

/// Queries of zeros see nothing but ALiBi: a page is left out when its newest key is 88 / slope = 44 tokens or more back
/// for the steep head, 352 for the other.
#[test]
fn pages_are_counted_and_those_left_out_too() {
    let shape = Shape { element: Element::F16, heads: 2, d: 16 };
    let mut cases = Cases::default();
    cases.kernel(&shape.append());
    cases.kernel(&shape.attention());
    let builds = Builds::of(&cases);
    let cache = filled(&builds, &shape);
    // One row, two that go one by one, a block; seen and skipped.
    let ways: [(usize, usize, [u64; 2]); 6] =
        [(1, 149, [6, 1]), (1, 107, [4, 0]), (1, 108, [4, 1]), (2, 107, [8, 1]), (20, 130, [6, 1]), (60, 0, [2, 0])];
    for (count, before, expect) in ways {
        let zeros = vec![0; 4 * count * shape.heads * shape.d];
        let counts = attended(&builds, &shape, &[(count, before)], zeros, &cache).remove(6);
        let counts: Vec<u64> =
            counts.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        assert_eq!(counts, expect, "{count} rows after {before}");
    }
}

/// The cache of a call of [`Shape::append`], kernel 0, with all tokens of the first sequence.
fn filled(builds: &Builds, shape: &Shape) -> Vec<u8> {
    let call = [(150, 0)];
    let (rows, pages, dims) = tables(&call);
    let views = vec![shape.rows(&call, 1), shape.rows(&call, 2), shape.cache(), rows, pages];
    builds.run(&[Launch { kernel: 0, views, dims: dims.to_vec(), tiles_at_once: 0 }]).remove(0).remove(2)
}

/// The views and counts of a call of [`Shape::attention`], kernel 1.
fn attended(builds: &Builds, shape: &Shape, call: Call, q: Vec<u8>, cache: &[u8]) -> Vec<Vec<u8>> {
    let (rows, pages, dims) = tables(call);
    let out = vec![0; q.len()];
    let views = vec![q, cache.to_vec(), rows, pages, bytes(&shape.slopes()), out];
    builds.run(&[Launch { kernel: 1, views, dims: dims.to_vec(), tiles_at_once: 0 }]).remove(0)
}

/// One way through both sequences, call by call; kernels `append` and `append + 1`. The rows of each sequence.
fn run(builds: &Builds, append: usize, shape: &Shape, way: &[Call]) -> [Vec<f32>; 2] {
    let mut cache = shape.cache();
    let mut results = [vec![], vec![]];
    for (turn, call) in way.iter().enumerate() {
        let (rows, pages, dims) = tables(call);
        let launch = |kernel, views| [Launch { kernel, views, dims: dims.to_vec(), tiles_at_once: turn as u32 }];
        let views = vec![shape.rows(call, 1), shape.rows(call, 2), cache, rows.clone(), pages.clone()];
        cache = builds.run(&launch(append, views)).remove(0).remove(2);
        let q = shape.rows(call, 0);
        let out = bytes(&vec![f32::NAN; q.len() / 4]);
        let views = vec![q, cache.clone(), rows, pages, bytes(&shape.slopes()), out];
        let out = floats(&builds.run(&launch(append + 1, views))[0][5]);
        let mut rest = &out[..];
        for (result, (count, _)) in results.iter_mut().zip(*call) {
            let (head, tail) = rest.split_at(count * shape.heads * shape.d);
            result.extend_from_slice(head);
            rest = tail;
        }
    }
    results
}
