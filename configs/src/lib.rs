//! Configurations: MindFormers' YAML files, typed, then resolved.
//!
//! Empty yet: what they say (strategies, training, data) arrives together with the passes that read it. Until then all
//! settings come from a model's `config.json` (`models`) and the command line (`cli`). Absent here: graphs.
