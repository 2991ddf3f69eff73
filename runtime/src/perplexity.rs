//! Perplexity of a text that may be longer than a window, as Hugging Face's documentation defines it ("Perplexity of
//! fixed-length models").
//!
//! A window begins every `stride` tokens. Of each the tokens count that no window before it had; those before them are
//! context, and a window's first token is never predicted, as nothing stands before it. The perplexity is the exponential
//! of the mean negative log-likelihood of all tokens that count. (The documentation's program weights a window with one
//! token fewer than its mean was taken over wherever a window begins with context. Here every token weighs the same.)

use std::ops::Range;

use crate::error::RunError;
use crate::generate::check_logits;
use crate::sampling::log_probability;
use crate::session::{Chunk, Session, Want, check_ids};

/// How a text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Tokens of a window.
    pub window: usize,
    /// Tokens from one window's beginning to the next one's; as many as a window has for windows that share none.
    pub stride: usize,
}

/// One window of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its tokens.
    pub tokens: Range<usize>,
    /// Those of them that count: the last ones.
    pub scored: Range<usize>,
}

/// What a model makes of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// Windows.
    pub windows: usize,
    /// Tokens that count.
    pub scored: usize,
    /// The sum of their negative log-likelihoods, in nats.
    pub sum: f64,
}

impl Windows {
    /// The windows of a text of so many tokens, in order.
    ///
    /// # Panics
    /// When the stride is 0.
    pub fn over(&self, tokens: usize) -> Vec<Window> {
        let (mut windows, mut seen) = (Vec::new(), 0);
        for begin in (0..tokens).step_by(self.stride) {
            let end = begin.saturating_add(self.window).min(tokens);
            windows.push(Window { tokens: begin..end, scored: seen.max(begin + 1)..end });
            seen = end;
            if end == tokens {
                break;
            }
        }
        windows
    }

    /// Refuses windows that predict nothing, leave tokens out or do not fit.
    fn check(&self, context: usize) -> Result<(), RunError> {
        let Windows { window, stride } = *self;
        let setting = |name, value: usize, expected| Err(RunError::Setting { name, value: value as f64, expected });
        if window < 2 {
            return setting("window", window, "at least 2, of which one is predicted");
        }
        if stride == 0 {
            return setting("stride", stride, "at least 1");
        }
        if window > context {
            return Err(RunError::Contradiction(format!(
                "a window of {window} tokens does not fit the context of {context}: take windows of at most {context}, or \
                 compile with --max-context {window}"
            )));
        }
        if stride > window {
            return Err(RunError::Contradiction(format!(
                "stride is {stride} with windows of {window} tokens and would leave out those between two windows: take at \
                 most {window}"
            )));
        }
        Ok(())
    }
}

/// Measures a text, given by its ids; `seen` hears of every window when it is done.
///
/// # Errors
/// Before anything runs: windows that mean nothing or do not fit the context, a text with no token to predict, ids outside
/// the vocabulary. Later: as [`Session::step`], and logits that are no numbers.
pub fn perplexity(
    session: &mut Session,
    ids: &[u32],
    windows: Windows,
    seen: &mut dyn FnMut(&Window),
) -> Result<Perplexity, RunError> {
    windows.check(session.context())?;
    if ids.len() < 2 {
        return Err(RunError::Short(ids.len()));
    }
    check_ids(ids, session.vocabulary())?;
    let windows = windows.over(ids.len());
    let mut measured = Perplexity { windows: windows.len(), scored: 0, sum: 0.0 };
    for window in &windows {
        // A last window of one token has nothing to predict it from.
        if !window.scored.is_empty() {
            measured.sum += negative_log_likelihood(session, ids, window)?;
            measured.scored += window.scored.len();
        }
        seen(window);
    }
    Ok(measured)
}

/// The sum over a window's tokens that count.
fn negative_log_likelihood(session: &mut Session, ids: &[u32], window: &Window) -> Result<f64, RunError> {
    let begin = window.tokens.start;
    let sequence = session.start();
    // A window's last token is predicted and predicts nothing, so it does not run.
    let run = &ids[begin..window.tokens.end - 1];
    let chunk = Chunk { sequence, ids: run, want: Want::From(window.scored.start - 1 - begin) };
    let (mut sum, mut broken) = (0.0, Ok(()));
    let stepped = session.step(&[chunk], |_, row, logits| {
        let predicted = begin + row + 1;
        match check_logits(logits, predicted) {
            Ok(()) => sum -= log_probability(logits, ids[predicted]),
            error => broken = error,
        }
    });
    session.end(sequence);
    stepped.and(broken).map(|()| sum)
}

impl Perplexity {
    /// The mean negative log-likelihood of a token, in nats.
    pub fn mean(&self) -> f64 {
        self.sum / self.scored as f64
    }

    /// Its exponential.
    pub fn perplexity(&self) -> f64 {
        self.mean().exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{VOCABULARY, artifact};
    use crate::logits::all_logits;
    use crate::session::SessionOptions;

    fn session() -> Session {
        let options = SessionOptions { pages: 4, ..SessionOptions::default() };
        Session::new(artifact(), &options).unwrap()
    }

    fn text(tokens: usize) -> Vec<u32> {
        (0..tokens as u32).map(|i| (i * i + 3 * i / 2) % VOCABULARY).collect()
    }

    fn measured(tokens: usize, window: usize, stride: usize) -> Perplexity {
        let mut session = session();
        let mut seen = 0;
        let found =
            perplexity(&mut session, &text(tokens), Windows { window, stride }, &mut |w| seen = w.tokens.end).unwrap();
        assert_eq!((seen, session.free_pages()), (tokens, 4));
        found
    }

    /// Sum and count over the last rows of logits: `targets` has an id or, where it is masked, none for each row's next
    /// token. Written as the documentation has it: labels of context are masked, then all move by one.
    fn masked(logits: &[f32], targets: &[Option<u32>]) -> (f64, usize) {
        let (mut sum, mut count) = (0.0, 0);
        for (row, target) in logits.chunks_exact(VOCABULARY as usize).zip(&targets[1..]) {
            let Some(target) = target else { continue };
            let total: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            sum += total.ln() - f64::from(row[*target as usize]);
            count += 1;
        }
        (sum, count)
    }

    /// The documentation's loop, over logits of each window that are computed on their own.
    fn by_hand(ids: &[u32], window: usize, stride: usize) -> (f64, usize) {
        let (mut sum, mut count, mut before) = (0.0, 0, 0);
        let mut begin = 0;
        loop {
            let end = ids.len().min(begin + window);
            let part = ids[begin..end].to_vec();
            let masked_out = part.len() - (end - before);
            let targets: Vec<Option<u32>> =
                part.iter().enumerate().map(|(i, id)| (i >= masked_out).then_some(*id)).collect();
            let logits = all_logits(&mut session(), &[part]).unwrap().data;
            let (more, tokens) = masked(&logits, &targets);
            (sum, count, before) = (sum + more, count + tokens, end);
            if end == ids.len() {
                return (sum, count);
            }
            begin += stride;
        }
    }

    #[test]
    fn it_is_the_documentations_loop() {
        for (tokens, window, stride) in
            [(30, 8, 3), (30, 8, 8), (30, 8, 1), (7, 8, 4), (2, 2, 1), (17, 8, 8), (9, 14, 14)]
        {
            let found = measured(tokens, window, stride);
            let (sum, count) = by_hand(&text(tokens), window, stride);
            assert_eq!(found.scored, count, "{tokens} tokens, windows of {window}, stride {stride}");
            assert!((found.sum - sum).abs() < 1e-6 * sum, "{tokens}, {window}, {stride}: {found:?}, {sum}");
            assert_eq!(found.perplexity(), (found.sum / count as f64).exp());
        }
    }

    #[test]
    fn a_stride_of_a_window_is_texts_on_their_own() {
        let whole = measured(24, 8, 8);
        let parts = text(24).chunks(8).fold((0.0, 0), |(sum, scored), part| {
            let part = perplexity(&mut session(), part, Windows { window: 8, stride: 8 }, &mut |_| {}).unwrap();
            (sum + part.sum, scored + part.scored)
        });
        assert_eq!((whole.sum, whole.scored, whole.windows), (parts.0, 24 - 3, 3));
        assert_eq!(parts.1, whole.scored);
    }

    #[test]
    fn every_token_counts_once_and_the_first_never() {
        for (tokens, window, stride) in [(30, 8, 3), (100, 10, 7), (5, 9, 2), (10, 10, 10)] {
            let windows = Windows { window, stride }.over(tokens);
            let counted: Vec<usize> = windows.iter().flat_map(|window| window.scored.clone()).collect();
            assert_eq!(counted, (1..tokens).collect::<Vec<_>>());
            assert!(windows.iter().all(|one| one.tokens.len() <= window && one.tokens.end == one.scored.end));
        }
        let windows = Windows { window: 4, stride: 4 }.over(9);
        let scored: Vec<Range<usize>> = windows.into_iter().map(|window| window.scored).collect();
        assert_eq!(scored, [1..4, 5..8, 9..9]);
    }

    #[test]
    fn context_is_run_and_the_last_token_is_not() {
        let mut session = session();
        let windows = Windows { window: 8, stride: 4 };
        perplexity(&mut session, &text(16), windows, &mut |_| {}).unwrap();
        assert_eq!(session.computed(), 3 * 7);
    }

    #[test]
    fn what_means_nothing_is_refused_with_both_numbers() {
        let refused = |tokens: usize, window, stride, parts: &[&str]| {
            let windows = Windows { window, stride };
            let mut session = session();
            let error = perplexity(&mut session, &text(tokens), windows, &mut |_| {}).unwrap_err().to_string();
            parts.iter().for_each(|part| assert!(error.contains(part), "{error}"));
            assert_eq!(session.computed(), 0);
        };
        refused(30, 15, 5, &["window of 15 tokens", "context of 14", "--max-context 15"]);
        refused(30, 8, 9, &["stride is 9 with windows of 8", "at most 8"]);
        refused(30, 1, 1, &["window is 1, it must be at least 2"]);
        refused(30, 8, 0, &["stride is 0, it must be at least 1"]);
        refused(1, 8, 4, &["text of 1 token", "at least 2"]);
        refused(0, 8, 4, &["text of 0 token"]);
    }
}
