//! What fuzzing kept, replayed: readers of foreign bytes refuse it or use it, and do not fall over.

use std::fs;
use std::path::Path;

use bloomery_tests::foreign::READERS;

#[test]
fn kept_inputs_are_read_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, read) in READERS {
        let folder = tempfile::tempdir().unwrap();
        let entries = fs::read_dir(corpus.join(name)).unwrap();
        let outcomes: Vec<Result<(), String>> =
            entries.map(|entry| read(&fs::read(entry.unwrap().path()).unwrap(), folder.path())).collect();
        let refusals: Vec<&String> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(refusals.iter().all(|message| !message.is_empty()), "{name}: {refusals:?}");
        assert!(refusals.len() < outcomes.len(), "{name}: nothing is read: {refusals:?}");
        assert!(refusals.len() > 1, "{name}: of {} inputs {} are refused", outcomes.len(), refusals.len());
    }
}
