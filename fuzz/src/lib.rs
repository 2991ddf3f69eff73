//! Fuzz targets over [`bloomery_tests::foreign`], one for each reader. CONTRIBUTING.md says how to run them.

#[doc(hidden)]
pub use {bloomery_tests::foreign, libfuzzer_sys, tempfile};

/// The target of the reader of this name.
#[macro_export]
macro_rules! target {
    ($reader:ident) => {
        use $crate::libfuzzer_sys;
        thread_local! {
            static FOLDER: $crate::tempfile::TempDir = $crate::tempfile::tempdir().expect("there is room for one");
        }
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            FOLDER.with(|folder| drop($crate::foreign::$reader(bytes, folder.path())));
        });
    };
}
