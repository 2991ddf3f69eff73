//! How ids lie in rows of one length, and the columns that say so.

use bloomery_formats::mindrecord::{Element, Field, Row, Schema, Value};

use super::sample::Sample;

/// How rows are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A sample a row: `input_ids`, and what they are: `lengths`, `prompt_lengths`.
    One,
    /// As many samples a row as fit, with the same columns.
    Packed,
    /// MindFormers' rows: `input_ids` alone, one more than the sequence's length, those of prompts negated.
    MindFormers,
}

/// Rows that are being filled.
#[derive(Debug)]
pub(super) struct Rows {
    layout: Layout,
    /// Ids of a row.
    length: usize,
    end: u32,
    ids: Vec<i64>,
    lengths: Vec<i64>,
    prompts: Vec<i64>,
    /// Ids in rows that were finished, padding left out.
    pub(super) tokens: u64,
    /// Samples that were longer than a row with their end.
    pub(super) cut: usize,
    /// Of these, how many have no answer left.
    pub(super) unanswered: usize,
}

impl Rows {
    /// No rows yet, for sequences of a length; `end` ends a sample and fills rows.
    pub(super) fn new(layout: Layout, seq_length: usize, end: u32) -> Rows {
        let length = if layout == Layout::MindFormers { seq_length + 1 } else { seq_length };
        let (ids, lengths, prompts) = (Vec::new(), Vec::new(), Vec::new());
        Rows { layout, length, end, ids, lengths, prompts, tokens: 0, cut: 0, unanswered: 0 }
    }

    /// Ids of a row.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The columns of a row.
    pub(super) fn schema(layout: Layout) -> Schema {
        let columns: &[(&str, Element)] = match layout {
            Layout::MindFormers => &[("input_ids", Element::Int64)],
            Layout::One | Layout::Packed => {
                &[("input_ids", Element::Int32), ("lengths", Element::Int32), ("prompt_lengths", Element::Int32)]
            }
        };
        let description = if layout == Layout::MindFormers {
            "lm-schema"
        } else {
            "ids, padded; of each sample its length and its prompt's"
        };
        let columns = columns.iter().map(|(name, element)| ((*name).to_owned(), Field::list(*element)));
        Schema::new(description, columns).expect("the names are words")
    }

    /// Adds a sample; the row that is full then, if one is.
    pub(super) fn push(&mut self, sample: &Sample) -> Option<Row> {
        // A sample that fills a row has no end.
        let length = (sample.len() + 1).min(self.length);
        let full = !self.ids.is_empty() && self.ids.len() + length > self.length;
        let row = full.then(|| self.row());
        self.put(sample, length);
        match self.layout {
            Layout::Packed => row,
            Layout::One | Layout::MindFormers => Some(self.row()),
        }
    }

    /// The last row, if one was begun.
    pub(super) fn finish(&mut self) -> Option<Row> {
        (!self.ids.is_empty()).then(|| self.row())
    }

    fn put(&mut self, sample: &Sample, length: usize) {
        self.cut += usize::from(sample.len() + 1 > self.length);
        self.unanswered += usize::from(sample.prompt.len() >= self.length && !sample.answer.is_empty());
        let sign = if self.layout == Layout::MindFormers { -1 } else { 1 };
        let prompt = sample.prompt.iter().map(|id| sign * i64::from(*id));
        let rest = sample.answer.iter().chain([&self.end]).map(|id| i64::from(*id));
        self.ids.extend(prompt.chain(rest).take(length));
        self.lengths.push(length as i64);
        self.prompts.push(sample.prompt.len().min(length) as i64);
        self.tokens += length as u64;
    }

    fn row(&mut self) -> Row {
        self.ids.resize(self.length, self.end.into());
        let ids = Value::Ints(std::mem::take(&mut self.ids));
        let [lengths, prompts] = [&mut self.lengths, &mut self.prompts].map(|list| Value::Ints(std::mem::take(list)));
        if self.layout == Layout::MindFormers { vec![ids] } else { vec![ids, lengths, prompts] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(prompt: &[u32], answer: &[u32]) -> Sample {
        Sample { prompt: prompt.into(), answer: answer.into() }
    }

    fn rows(layout: Layout, length: usize, samples: &[Sample]) -> (Vec<Vec<Vec<i64>>>, Rows) {
        let mut rows = Rows::new(layout, length, 2);
        let mut all: Vec<Row> = samples.iter().filter_map(|sample| rows.push(sample)).collect();
        all.extend(rows.finish());
        let list = |value: Value| if let Value::Ints(list) = value { list } else { panic!("{value:?}") };
        (all.into_iter().map(|row| row.into_iter().map(list).collect()).collect(), rows)
    }

    #[test]
    fn a_row_says_what_is_prompt_and_what_is_padding() {
        let samples = [
            sample(&[5, 6], &[7]),
            sample(&[5, 6, 7], &[8, 9]),
            sample(&[5], &[6, 7, 8]),
            sample(&[5, 6, 7, 8, 9, 10], &[11]),
        ];
        let (all, rows) = rows(Layout::One, 5, &samples);
        assert_eq!(all[0], [vec![5, 6, 7, 2, 2], vec![4], vec![2]]);
        assert_eq!(all[1], [vec![5, 6, 7, 8, 9], vec![5], vec![3]]);
        assert_eq!(all[2], [vec![5, 6, 7, 8, 2], vec![5], vec![1]]);
        assert_eq!(all[3], [vec![5, 6, 7, 8, 9], vec![5], vec![5]]);
        assert_eq!((all.len(), rows.tokens, rows.cut, rows.unanswered), (4, 19, 2, 1));
    }

    #[test]
    fn samples_are_packed_whole_and_with_their_bounds() {
        let samples = [sample(&[5], &[6]), sample(&[7], &[8]), sample(&[9], &[10, 11, 12]), sample(&[5; 9], &[6])];
        let (all, rows) = rows(Layout::Packed, 7, &samples);
        assert_eq!(all[0], [vec![5, 6, 2, 7, 8, 2, 2], vec![3, 3], vec![1, 1]]);
        assert_eq!(all[1], [vec![9, 10, 11, 12, 2, 2, 2], vec![5], vec![1]]);
        assert_eq!(all[2], [vec![5; 7], vec![7], vec![7]]);
        assert_eq!((all.len(), rows.tokens, rows.cut, rows.unanswered), (3, 18, 1, 1));
    }

    #[test]
    fn mindformers_rows_have_one_id_more_and_negated_prompts() {
        let samples = [sample(&[5, 0], &[7]), sample(&[5, 6], &[7, 8, 9]), sample(&[5, 6], &[7, 8, 9, 10])];
        let (all, rows) = rows(Layout::MindFormers, 4, &samples);
        assert_eq!(all, [[vec![-5, 0, 7, 2, 2]], [vec![-5, -6, 7, 8, 9]], [vec![-5, -6, 7, 8, 9]]]);
        assert_eq!((rows.length(), rows.cut), (5, 2));
    }
}
