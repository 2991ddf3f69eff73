//! Beam search as Hugging Face defines it, for one prompt and without a model: candidates in, beams out.
//!
//! A step looks at the best `beams * max(2, 1 + ids that end)` continuations of all running beams, so that as many can go
//! on even if all the others end. Of the best `beams` among them those that end are kept, scored by the sum of their
//! logarithms over length ^ penalty; the best that do not end run on. (transformers, `GenerationMixin._beam_search`,
//! written for one prompt: there a batch goes on until its last prompt has ended, and ended ones take nothing more.)

use super::Finish;
use super::config::{EarlyStopping, GenerationConfig};

/// A search under way.
pub(super) struct Search {
    beams: usize,
    length_penalty: f64,
    early_stopping: EarlyStopping,
    eos: Vec<u32>,
    /// New tokens there may be.
    room: usize,
    /// Best first.
    running: Vec<Beam>,
    /// Best first.
    ended: Vec<Ended>,
    done: bool,
}

/// A sequence that may go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Beam {
    /// New ids.
    pub(super) ids: Vec<u32>,
    /// Sum of the scores of its ids.
    sum: f64,
    /// Logarithms of the probabilities of its ids, as they were before any processor.
    pub(super) logprobs: Vec<f32>,
}

/// One that ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    pub(super) beam: Beam,
    pub(super) score: f64,
    pub(super) finish: Finish,
}

/// A token that may follow a beam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Which running beam.
    beam: usize,
    id: u32,
    sum: f64,
    logprob: f32,
}

impl Search {
    /// At the end of the prompt.
    pub(super) fn new(config: &GenerationConfig, room: usize) -> Search {
        Search {
            beams: config.num_beams,
            length_penalty: config.length_penalty,
            early_stopping: config.early_stopping,
            eos: config.eos_token_id.clone(),
            room,
            running: vec![Beam::default()],
            ended: Vec::new(),
            done: false,
        }
    }

    /// Beams that want a token; none when the search is over.
    pub(super) fn running(&self) -> &[Beam] {
        if self.done { &[] } else { &self.running }
    }

    /// The best tokens to follow a beam. `scores` are what processors made of `logprobs`.
    pub(super) fn candidates(&self, beam: usize, scores: &[f32], logprobs: &[f32]) -> Vec<Candidate> {
        let mut best: Vec<u32> =
            (0..scores.len() as u32).filter(|&id| scores[id as usize] > f32::NEG_INFINITY).collect();
        let order = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
        let count = self.looked_at();
        if count < best.len() {
            best.select_nth_unstable_by(count, order);
            best.truncate(count);
        }
        let sum = self.running[beam].sum;
        let candidate =
            |id: u32| Candidate { beam, id, sum: sum + f64::from(scores[id as usize]), logprob: logprobs[id as usize] };
        best.into_iter().map(candidate).collect()
    }

    /// Takes a step with the candidates of all beams, and says which beam each that runs now came from. `stops` may end a
    /// sequence by its new ids.
    pub(super) fn advance(
        &mut self,
        mut candidates: Vec<Candidate>,
        mut stops: impl FnMut(&[u32]) -> bool,
    ) -> Vec<usize> {
        candidates.sort_by(|a, b| b.sum.total_cmp(&a.sum).then((a.beam, a.id).cmp(&(b.beam, b.id))));
        candidates.truncate(self.looked_at());
        if candidates.is_empty() {
            self.give_up();
            return Vec::new();
        }
        let (mut running, mut parents) = (Vec::new(), Vec::new());
        for (rank, candidate) in candidates.into_iter().enumerate() {
            let beam = self.running[candidate.beam].followed_by(&candidate);
            match Finish::of(&beam.ids, &self.eos, self.room, &mut stops) {
                Some(finish) if rank < self.beams => self.end(beam, finish),
                Some(_) => {}
                None if running.len() < self.beams => {
                    running.push(beam);
                    parents.push(candidate.beam);
                }
                None => {}
            }
        }
        self.running = running;
        self.done = self.is_over();
        if self.done { Vec::new() } else { parents }
    }

    /// Ends every beam as it is.
    pub(super) fn give_up(&mut self) {
        for beam in std::mem::take(&mut self.running) {
            self.end(beam, Finish::Stop);
        }
        self.done = true;
    }

    /// What ended, best first.
    pub(super) fn into_ended(self) -> Vec<Ended> {
        self.ended
    }

    fn looked_at(&self) -> usize {
        self.beams * (1 + self.eos.len()).max(2)
    }

    fn end(&mut self, beam: Beam, finish: Finish) {
        let score = self.score(beam.sum, beam.ids.len());
        let place = self.ended.partition_point(|ended| ended.score >= score);
        self.ended.insert(place, Ended { beam, score, finish });
        self.ended.truncate(self.beams);
    }

    fn score(&self, sum: f64, length: usize) -> f64 {
        sum / (length as f64).powf(self.length_penalty)
    }

    fn is_over(&self) -> bool {
        let Some(best) = self.running.first() else { return true };
        let Some(worst) = self.ended.last().filter(|_| self.ended.len() == self.beams) else { return false };
        let length = match self.early_stopping {
            EarlyStopping::True => return true,
            EarlyStopping::Never if self.length_penalty > 0.0 => self.room,
            EarlyStopping::Never | EarlyStopping::False => best.ids.len(),
        };
        self.score(best.sum, length) <= worst.score
    }
}

impl Beam {
    fn followed_by(&self, candidate: &Candidate) -> Beam {
        let mut beam = self.clone();
        beam.ids.push(candidate.id);
        beam.logprobs.push(candidate.logprob);
        beam.sum = candidate.sum;
        beam
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EOS: u32 = 0;

    fn search(change: impl Fn(&mut GenerationConfig)) -> Search {
        let mut config = GenerationConfig { num_beams: 2, eos_token_id: vec![EOS], ..GenerationConfig::default() };
        change(&mut config);
        Search::new(&config, 4)
    }

    /// A step in which every running beam sees the same logarithms of probabilities.
    fn step(search: &mut Search, logprobs: &[f32]) -> Vec<usize> {
        let beams = 0..search.running().len();
        let candidates = beams.flat_map(|beam| search.candidates(beam, logprobs, logprobs)).collect();
        search.advance(candidates, |_| false)
    }

    fn ids(search: &Search) -> Vec<&[u32]> {
        search.running().iter().map(|beam| beam.ids.as_slice()).collect()
    }

    #[test]
    fn the_best_run_on_from_their_parents() {
        let mut search = search(|_| {});
        assert_eq!(step(&mut search, &[-9.0, -1.0, -2.0, -3.0]), [0, 0]);
        assert_eq!(ids(&search), [[1], [2]]);
        assert_eq!(step(&mut search, &[-9.0, -1.0, -2.5, -3.0]), [0, 1]);
        assert_eq!(ids(&search), [[1, 1], [2, 1]]);
    }

    #[test]
    fn an_end_counts_among_the_best_beams_only() {
        let mut search = search(|_| {});
        // The end is third: too late to be kept, and it does not run on.
        step(&mut search, &[-3.0, -1.0, -2.0, -4.0]);
        assert!(search.ended.is_empty());
        step(&mut search, &[-1.0, -2.0, -4.0, -5.0]);
        assert_eq!(search.ended[0].beam.ids, [1, EOS]);
        assert_eq!((search.ended[0].score, search.ended.len()), (-1.0, 1));
    }

    #[test]
    fn when_it_stops_is_asked_for() {
        // After two ends, at -0.5 and -1, the best running beam has -2.9 over two tokens.
        let after = |early_stopping, length_penalty| {
            let mut search = search(|c| (c.early_stopping, c.length_penalty) = (early_stopping, length_penalty));
            step(&mut search, &[-0.5, -0.9, -9.0, -9.0]);
            step(&mut search, &[-1.1, -2.0, -9.0, -9.0]);
            assert_eq!(search.ended.len(), 2, "{:?}", search.ended);
            search.done
        };
        assert!(after(EarlyStopping::True, 1.0) && after(EarlyStopping::False, 1.0));
        // Over four tokens it could still be -2.9 / 4.
        assert!(!after(EarlyStopping::Never, 1.0));
        assert!(after(EarlyStopping::Never, 0.0));
    }

    #[test]
    fn all_end_at_the_length() {
        let mut search = search(|c| c.eos_token_id.clear());
        for _ in 0..4 {
            step(&mut search, &[-9.0, -1.0, -2.0, -3.0]);
        }
        assert!(search.running().is_empty());
        let ended = search.into_ended();
        assert_eq!(
            (ended[0].beam.ids.as_slice(), ended[0].finish, ended[0].score),
            (&[1u32; 4][..], Finish::Length, -1.0)
        );
        assert_eq!(ended.len(), 2);
    }

    #[test]
    fn where_nothing_may_follow_beams_end_as_they_are() {
        let mut search = search(|_| {});
        step(&mut search, &[-9.0, -1.0, -2.0, -3.0]);
        step(&mut search, &[f32::NEG_INFINITY; 4]);
        assert_eq!(search.into_ended().len(), 2);
    }
}
