//! What can be wrong inside a torch file.

/// Why a torch file is refused; sizes in bytes.
#[derive(Debug, thiserror::Error)]
pub enum TorchProblem {
    /// Another format.
    #[error(
        "it begins neither as torch's zip archives nor as the files before them (was the download interrupted, or is it another format?)"
    )]
    Foreign,
    /// A zip archive without its end.
    #[error("the archive's directory is not at its end, after {size} bytes: it is cut short; download it again")]
    NoDirectory {
        /// The file's size.
        size: usize,
    },
    /// A record of the archive.
    #[error("record {name} {what}; download it again or save it anew with torch")]
    Record {
        /// The record's name.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Numbers that lead out of the file.
    #[error("{what} reaches to byte {end}, and the file has {size}: it is cut short or damaged; download it again")]
    Outside {
        /// What does.
        what: String,
        /// Where it would end.
        end: u128,
        /// The file's size.
        size: usize,
    },
    /// Two records, or two tensors, of one name.
    #[error("{what} {name} is there twice; save it anew with torch")]
    Twice {
        /// "record", "tensor" or "storage".
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Records that share bytes.
    #[error("records {first} and {second} overlap; save it anew with torch")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The other.
        second: String,
    },
    /// Written on a machine of the other byte order.
    #[error("it was written on a big-endian machine: save it again on another")]
    BigEndian,
    /// A version of the old format that nobody has seen.
    #[error("it is of version {0} of torch's old format; only 1001 is known: save it anew with torch")]
    Version(String),
    /// A function or class that no state dict needs.
    #[error(
        "its pickle asks for {module}.{name} (byte {at}), and only what builds tensors is ever built: \
         if you trust the file, load it with torch and save model.state_dict() alone"
    )]
    Global {
        /// The Python module.
        module: String,
        /// The name in it.
        name: String,
        /// Where in the pickle.
        at: usize,
    },
    /// A pickle that is none, or does what no state dict does.
    #[error(
        "its pickle {what} (byte {at}): download it again, or if you trust the file, load it with torch and save model.state_dict() alone"
    )]
    Pickle {
        /// What it does.
        what: String,
        /// Where in the pickle.
        at: usize,
    },
    /// More than any checkpoint needs: a file made to exhaust memory.
    #[error("its pickle makes more than {limit} {what} (byte {at}), as no checkpoint does: trust it with nothing")]
    Bomb {
        /// What there is too much of.
        what: &'static str,
        /// How much would be too much.
        limit: usize,
        /// Where in the pickle.
        at: usize,
    },
    /// Something else than a dict of tensors.
    #[error("it holds {what} where a dict of tensors belongs: save model.state_dict() alone")]
    NoStateDict {
        /// What was found.
        what: String,
    },
    /// A tensor that its storage does not hold.
    #[error("tensor {tensor} {view}: {what}; download it again or save it anew with torch")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// How its storage is seen: type, shape, strides, first element.
        view: String,
        /// What is wrong.
        what: String,
    },
}
