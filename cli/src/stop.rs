//! Stop strings: texts that end an answer wherever they come, across tokens too, and are cut off it.

use bloomery_models::tokenizer::{StreamDecoder, Tokenizer};

/// The texts to look for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StopStrings<'a>(pub(crate) &'a [String]);

impl StopStrings<'_> {
    /// A text up to the first of them.
    pub(crate) fn cut<'t>(&self, text: &'t str) -> &'t str {
        let first = self.0.iter().filter_map(|stop| text.find(stop.as_str())).min();
        first.map_or(text, |first| &text[..first])
    }

    /// Whether one of them is complete with the last of these ids. Only the end of the text is decoded: a stop string that
    /// was complete earlier was found then.
    pub(crate) fn end(&self, tokenizer: &Tokenizer, ids: &[u32]) -> bool {
        let Some(longest) = self.0.iter().map(String::len).max() else { return false };
        let Some((newest, earlier)) = ids.split_last() else { return false };
        let needed = longest + tokenizer.decode(&[*newest], true).len();
        let mut count = longest.min(earlier.len());
        loop {
            let text = tokenizer.decode(&ids[earlier.len() - count..], true);
            // Special tokens have no text, so even as many tokens as bytes may not be enough.
            if text.len() >= needed || count == earlier.len() {
                return self.cut(&text).len() < text.len();
            }
            count = (2 * count).min(earlier.len());
        }
    }

    /// Bytes at a text's end that may become one of them.
    fn open(&self, text: &str) -> usize {
        let begins = |start: &usize| self.0.iter().any(|stop| stop.starts_with(&text[*start..]));
        let first = text.char_indices().map(|(start, _)| start).find(begins);
        text.len() - first.unwrap_or(text.len())
    }
}

/// One answer's text as it may be shown: whole characters, and nothing that may yet be cut off.
pub(crate) struct Shown<'a> {
    decoder: Option<StreamDecoder<'a>>,
    stops: StopStrings<'a>,
    held: String,
    stopped: bool,
}

impl<'a> Shown<'a> {
    pub(crate) fn new(tokenizer: Option<&'a Tokenizer>, stops: StopStrings<'a>) -> Shown<'a> {
        let decoder = tokenizer.map(|tokenizer| tokenizer.stream(true));
        Shown { decoder, stops, held: String::new(), stopped: false }
    }

    /// The text that an id makes certain.
    pub(crate) fn push(&mut self, id: u32) -> String {
        let Some(decoder) = self.decoder.as_mut().filter(|_| !self.stopped) else { return String::new() };
        self.held.push_str(&decoder.push(id));
        let kept = self.stops.cut(&self.held).len();
        if kept < self.held.len() {
            self.stopped = true;
            self.held.truncate(kept);
            return std::mem::take(&mut self.held);
        }
        let open = self.held.split_off(kept - self.stops.open(&self.held));
        std::mem::replace(&mut self.held, open)
    }

    /// What was held back for nothing.
    pub(crate) fn finish(&mut self) -> String {
        let rest = self.decoder.take().filter(|_| !self.stopped).map_or(String::new(), StreamDecoder::finish);
        std::mem::take(&mut self.held) + &rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn tokenizer() -> Tokenizer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hf/tokenizer");
        Tokenizer::from_folder(&folder).unwrap().unwrap()
    }

    /// Shown pieces, and the number of ids after which the text ends.
    fn shown(text: &str, stops: &[&str]) -> (Vec<String>, usize) {
        let (tokenizer, stops) = (tokenizer(), stops.iter().map(ToString::to_string).collect::<Vec<_>>());
        let stops = StopStrings(&stops);
        let ids = tokenizer.encode(text).unwrap();
        let ends = (1..=ids.len()).find(|&count| stops.end(&tokenizer, &ids[..count])).unwrap_or(ids.len());
        let mut shown = Shown::new(Some(&tokenizer), stops);
        let mut pieces: Vec<String> = ids[..ends].iter().map(|&id| shown.push(id)).collect();
        pieces.push(shown.finish());
        assert_eq!(pieces.concat(), stops.cut(text), "{text:?}");
        (pieces, ends)
    }

    #[test]
    fn a_stop_string_that_spans_tokens_is_found_and_cut() {
        let text = "and it was so. ### Human: and it was";
        let (pieces, ends) = shown(text, &["### Human:", "never"]);
        assert_eq!(pieces.concat(), "and it was so. ");
        assert!(ends < tokenizer().encode(text).unwrap().len());
        assert!(pieces.iter().all(|piece| !piece.contains('#')), "{pieces:?}");
    }

    #[test]
    fn what_only_looks_like_one_is_shown_in_the_end() {
        assert_eq!(shown("it was ##", &["###"]).0.concat(), "it was ##");
        assert_eq!(shown("aab", &["ab"]).0.concat(), "a");
    }

    #[test]
    fn characters_are_whole() {
        for stops in [&[][..], &["好"], &["😀!"]] {
            let (pieces, _) = shown("你好 😀 你", stops);
            assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
        }
    }

    #[test]
    fn tokens_without_text_hide_no_stop_string() {
        let (tokenizer, stops) = (tokenizer(), ["so.".to_owned()]);
        let so = tokenizer.encode("so").unwrap();
        let end = tokenizer.encode(".").unwrap();
        let ids = [so, vec![1; 9], end].concat();
        assert!(StopStrings(&stops).end(&tokenizer, &ids));
    }
}
