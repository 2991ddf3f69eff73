//! Files that torch wrote, and files made by hand that lie.

use std::path::Path;

use super::*;
use crate::Dtype;

/// A file of a recorded model.
fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hf");
    std::fs::read(folder.join(name).join("model/pytorch_model.bin")).unwrap()
}

// What pickles are made of, operation by operation.

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(number: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &number.to_le_bytes()].concat()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

fn storage(kind: &str, key: &str, count: i64) -> Vec<u8> {
    let id = [text("storage"), global("torch", kind), text(key), text("cpu"), int(count)];
    [tuple(&id), b"Q".to_vec()].concat()
}

fn tensor(storage: Vec<u8>, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let sizes = |sizes: &[i64]| tuple(&sizes.iter().map(|&size| int(size)).collect::<Vec<_>>());
    let hooks = [global("collections", "OrderedDict"), b")R".to_vec()].concat();
    let arguments = tuple(&[storage, int(offset), sizes(shape), sizes(strides), vec![0x89], hooks]);
    [global("torch._utils", "_rebuild_tensor_v2"), arguments, b"R".to_vec()].concat()
}

fn state(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [&[0x80, 2][..], b"}(", &entries, b"u."].concat()
}

/// A record's name, its bytes, and its method.
type Record<'a> = (&'a str, &'a [u8], u16);

/// An archive as the format wants it; sizes go to the 64-bit fields if asked for.
fn zip(records: &[Record<'_>], wide: bool) -> Vec<u8> {
    let (mut file, mut entries) = (Vec::new(), Vec::new());
    for (name, bytes, method) in records {
        let at = file.len();
        let (size, offset) = if wide { (u32::MAX, u32::MAX) } else { (bytes.len() as u32, at as u32) };
        let fields: Vec<u8> =
            [bytes.len() as u64; 2].into_iter().chain([at as u64]).flat_map(u64::to_le_bytes).collect();
        let extra = if wide { [&[1, 0, 24, 0][..], &fields].concat() } else { vec![] };
        let lengths = [(name.len() as u16).to_le_bytes(), (extra.len() as u16).to_le_bytes()].concat();
        let common = [&[0; 4][..], &method.to_le_bytes(), &[0; 8], &size.to_le_bytes(), &size.to_le_bytes()].concat();
        file.extend(
            [zip::MAGIC, &common, &(name.len() as u16).to_le_bytes(), &[0, 0], name.as_bytes(), bytes].concat(),
        );
        entries.extend([b"PK\x01\x02", &[0; 2][..], &common, &lengths, &[0; 10], &offset.to_le_bytes()].concat());
        entries.extend([name.as_bytes(), &extra].concat());
    }
    let (at, count) = (file.len() as u64, records.len() as u64);
    file.extend(&entries);
    let end = file.len() as u64;
    if wide {
        file.extend([b"PK\x06\x06", &[0; 28][..], &count.to_le_bytes(), &[0; 8], &at.to_le_bytes()].concat());
        file.extend([b"PK\x06\x07", &[0; 4][..], &end.to_le_bytes(), &[0; 4]].concat());
    }
    let at = if wide { u32::MAX } else { at as u32 };
    file.extend(
        [b"PK\x05\x06", &[0; 6][..], &(count as u16).to_le_bytes(), &[0; 4], &at.to_le_bytes(), &[0; 2]].concat(),
    );
    file
}

/// An archive of a pickle and one storage `0` of 24 bytes.
fn archive(pickle: &[u8]) -> Vec<u8> {
    zip(&[("m/data.pkl", pickle, 0), ("m/data/0", &[7; 24], 0)], false)
}

fn one(value: Vec<u8>) -> Vec<u8> {
    archive(&state(&[("a", value)]))
}

fn floats(offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    one(tensor(storage("FloatStorage", "0", 6), offset, shape, strides))
}

fn refused(bytes: &[u8], part: &str) {
    let message = read(bytes).expect_err("should be refused").to_string();
    assert!(message.contains(part), "{message:?} lacks {part:?}");
}

fn pickle_refused(pickle: &[u8], part: &str) {
    refused(&archive(pickle), part);
}

#[test]
fn every_form_that_torch_writes_is_read() {
    for name in ["tiny-bin", "tiny-bin-lmhead", "tiny-bin-legacy"] {
        let bytes = fixture(name);
        let found = read(&bytes).unwrap();
        assert!(found.len() >= 17 && found.iter().all(|(_, tensor)| tensor.dtype == Dtype::F32), "{name}");
        for (name, tensor) in found {
            let elements = tensor.range.len() / 4;
            assert_eq!(elements, tensor.shape.iter().product::<usize>(), "{name}");
        }
    }
}

#[test]
fn shared_storages_and_views_are_where_they_are() {
    let bytes = fixture("tiny-bin-lmhead");
    let found: std::collections::BTreeMap<_, _> = read(&bytes).unwrap().into_iter().collect();
    assert_eq!(found["lm_head.weight"], found["transformer.word_embeddings.weight"]);
    let columns: Vec<_> =
        found.iter().filter(|(_, tensor)| tensor.strides.first() == Some(&1) && tensor.shape.len() == 2).collect();
    assert_eq!(columns.len(), 1, "one matrix is kept by columns");
    let starts: std::collections::BTreeSet<_> = found.values().map(|tensor| tensor.range.start).collect();
    assert_eq!(starts.len(), found.len() - 1, "of two tensors in one storage each has its own place");
}

#[test]
fn tensors_are_ranges_of_the_file() {
    let bytes = floats(1, &[2, 2], &[1, 2]);
    let [(name, found)] = &read(&bytes).unwrap()[..] else { panic!("one tensor") };
    let start = bytes.windows(24).position(|window| window == [7; 24]).unwrap() + 4;
    let expect = Described { dtype: Dtype::F32, shape: vec![2, 2], strides: vec![1, 2], range: start..start + 16 };
    assert_eq!((name.as_str(), found), ("a", &expect));
    let none = floats(6, &[0, 9], &[9, 1]);
    assert!(read(&none).unwrap()[0].1.range.is_empty());
    let scalar = floats(5, &[], &[]);
    assert_eq!(read(&scalar).unwrap()[0].1.range.len(), 4);
}

#[test]
fn wide_archives_and_types_of_their_own_are_read() {
    let pickle = state(&[("a", tensor(storage("HalfStorage", "0", 12), 0, &[12], &[1]))]);
    let wide = zip(&[("m/data.pkl", &pickle, 0), ("m/byteorder", b"little", 0), ("m/data/0", &[7; 24], 0)], true);
    assert_eq!(read(&wide).unwrap()[0].1.dtype, Dtype::F16);
    let untyped = [storage("UntypedStorage", "0", 24), int(2), tuple(&[int(5)]), tuple(&[int(1)])];
    let typed = tuple(&[&untyped[..], &[vec![0x89], b"}".to_vec(), global("torch", "uint16")]].concat());
    let value = [global("torch._utils", "_rebuild_tensor_v3"), typed, b"R".to_vec()].concat();
    let found = &read(&one(value)).unwrap()[0].1;
    assert_eq!((found.dtype, found.range.len()), (Dtype::U16, 10));
}

#[test]
fn nothing_is_called_but_what_builds_tensors() {
    for (module, name) in
        [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("torch", "load"), ("torch.hub", "load")]
    {
        let call = [global(module, name), tuple(&[text("echo")]), b"R.".to_vec()].concat();
        pickle_refused(&call, &format!("asks for {module}.{name} (byte 0)"));
        let modern = [&[0x80, 4][..], &text(module), &text(name), &[0x93]].concat();
        pickle_refused(&modern, &format!("asks for {module}.{name}"));
    }
    pickle_refused(&global("torch", "QInt8Storage"), "asks for torch.QInt8Storage");
    pickle_refused(&global("a\u{1b}[2J", "b"), "asks for a\\u{1b}[2J.b");
    pickle_refused(&global(&"x".repeat(1000), "b"), "xx...b");
    // Operations that call by other ways: INST, OBJ, NEWOBJ, EXT1, PERSID.
    for operation in [b'i', b'o', 0x81, 0x82, b'P'] {
        pickle_refused(&[b'N', operation], "which no state dict needs (byte 1)");
    }
    pickle_refused(&[&global("torch", "FloatStorage"), &b")R"[..]].concat(), "that do not fit");
    pickle_refused(b"N)R", "calls None with a list");
    pickle_refused(&[&global("collections", "OrderedDict"), &b"}b"[..]].concat(), "gives attributes to a class");
}

#[test]
fn pickles_that_break_off_or_make_no_sense() {
    for (pickle, part) in [
        (&b""[..], "ends after 0 bytes"),
        (b"\x80", "ends after 1 bytes"),
        (b"\x80\x09", "is of protocol 9"),
        (b"X\xff\xff\xff\xffabc", "cut short"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc", "cut short"),
        (b"X\x01\0\0\0\xff", "not UTF-8"),
        (b"ctorch", "cut short"),
        (b"0", "takes a value where there is none"),
        (b"N(0", "takes a value where there is none"),
        (b"t", "closes a bracket"),
        (b"h\x05", "recalls value 5"),
        (b"q\x05", "keeps a value where there is none"),
        (b"NNa", "appends to None"),
        (b"NNNs", "puts entries into None"),
        (b"}(Nu", "a key without a value"),
        (b"NQ", "something else than a storage"),
        (b"\xff", "operation 0xff"),
        (b"N.", "holds None where a dict of tensors belongs"),
        (b"}(NNu.", "None as a name"),
    ] {
        pickle_refused(pickle, part);
    }
    pickle_refused(&state(&[("epoch", int(3))]), "an integer called \"epoch\"");
    pickle_refused(&state(&[("model", b"}".to_vec())]), "save model.state_dict() alone");
}

#[test]
fn bombs_are_counted() {
    pickle_refused(&b"(".repeat(1_000_000), "more than 64 levels of brackets");
    pickle_refused(&[b")", &b"\x85".repeat(2_000_000)[..]].concat(), "more than 1048576 lists, dicts and tensors");
    pickle_refused(&b"}".repeat(2_000_000), "more than 1048576 lists, dicts and tensors");
    let keep = |place: u32| [b"Nr", &place.to_le_bytes()[..], b"0"].concat();
    pickle_refused(&(0..2_200_000).flat_map(keep).collect::<Vec<u8>>(), "more than 2097152 kept values");
    pickle_refused(&b"N0".repeat(17_000_000), "more than 16777216 values");
    // A place far out costs one place.
    pickle_refused(b"Nr\xff\xff\xff\xff.", "holds None");
    // Lists that hold themselves, and each other twice: the classic that doubles with every line.
    pickle_refused(b"]q\0h\0a.", "holds a list");
    pickle_refused(&[b"]q\0", &b"h\0h\0\x86q\0".repeat(100_000)[..], b"."].concat(), "holds a list");
}

#[test]
fn tensors_stay_within_their_storages() {
    refused(&floats(0, &[7], &[1]), "reaches to element 7, and its storage has 6");
    refused(&floats(5, &[2], &[1]), "tensor a of type f32, shape [2] and strides [1] from element 5");
    refused(&floats(0, &[2, 3], &[3, 2]), "reaches to element 8");
    refused(&floats(i64::MAX, &[1], &[1]), "its storage has 6");
    refused(&floats(-1, &[1], &[1]), "gives -1 where a size belongs");
    refused(&floats(0, &[-2], &[1]), "gives -2 where a size belongs");
    refused(&floats(0, &[2], &[-1]), "gives -1 where a size belongs");
    refused(&floats(0, &[i64::MAX, i64::MAX], &[i64::MAX, i64::MAX]), "its storage has 6");
    refused(&floats(0, &[i64::MAX; 64], &[i64::MAX; 64]), "its storage has 6");
    refused(&floats(0, &[1; 65], &[1; 65]), "65 dimensions");
    refused(&floats(0, &[2, 3], &[1]), "2 dimensions and 1 strides");
    refused(&floats(0, &[i64::MAX, 2], &[0, 1]), "its elements overlap");
    refused(&floats(0, &[3, 3], &[1, 1]), "its elements overlap, 5 are stored");
    let of = |kind, key, count| one(tensor(storage(kind, key, count), 0, &[1], &[1]));
    refused(&of("FloatStorage", "0", 7), "storage 0 of 7 elements should have 28 bytes and has 24");
    refused(&of("FloatStorage", "0", i64::MAX), "should have 36893488147419103228 bytes");
    refused(&of("FloatStorage", "1", 6), "its storage 1 is not in the file");
    refused(&of("FloatStorage", "../data.pkl", 1), "is not in the file");
    refused(&of("UntypedStorage", "0", 24), "makes a tensor without a type");
    let a = || ("a", tensor(storage("FloatStorage", "0", 6), 0, &[1], &[1]));
    let two = state(&[a(), a()]);
    pickle_refused(&two, "tensor a is there twice");
}

#[test]
fn archives_that_lie() {
    let pickle = state(&[]);
    let records = |records: &[Record<'_>]| zip(records, false);
    assert!(read(&records(&[("m/data.pkl", &pickle, 0)])).unwrap().is_empty());
    refused(b"version https", "begins neither as");
    refused(&records(&[("m/other", &pickle, 0)]), "record data.pkl is not in the archive");
    refused(&records(&[("data.pkl", &pickle, 0)]), "record data.pkl is not in the archive");
    refused(&records(&[("m/data.pkl", &pickle, 8)]), "record m/data.pkl is compressed");
    refused(&records(&[("m/data.pkl", &pickle, 0), ("m/data.pkl", &pickle, 0)]), "m/data.pkl is there twice");
    refused(&records(&[("m/data.pkl", &pickle, 0), ("m/byteorder", b"big", 0)]), "big-endian");
    for wide in [false, true] {
        let whole = zip(&[("m/data.pkl", &pickle, 0), ("m/data/0", &[7; 24], 0)], wide);
        for size in 0..whole.len() {
            assert!(read(&whole[..size]).is_err(), "cut at {size} of {}", whole.len());
        }
    }
    let whole = archive(&pickle);
    let hurt = |find: &[u8], at: usize, to: &[u8]| {
        let mut hurt = whole.clone();
        let found = hurt.windows(find.len()).rposition(|window| window == find).unwrap() + at;
        hurt[found..found + to.len()].copy_from_slice(to);
        hurt
    };
    refused(&hurt(b"PK\x01\x02", 42, &[0xf0, 0xff, 0xff, 0x7f]), "record m/data/0 reaches to byte 2147483662");
    refused(&hurt(b"PK\x01\x02", 42, &[1, 0, 0, 0]), "record at byte 1 does not begin");
    refused(&hurt(b"PK\x01\x02", 20, &[0xf0, 0xff, 0xff, 0x7f]), "record m/data/0 reaches to byte");
    refused(&hurt(b"PK\x01\x02", 20, &[0xff; 4]), "record m/data/0 lacks its 64-bit sizes");
    refused(&hurt(b"PK\x01\x02", 42, &[0; 4]), "overlap");
    refused(&hurt(b"PK\x01\x02", 8, &[1]), "is encrypted");
    refused(&hurt(b"PK\x05\x06", 10, &[3, 0]), "reaches to byte");
    refused(&hurt(b"PK\x05\x06", 16, &[0xf0, 0xff, 0xff, 0x7f]), "an entry of the archive's directory reaches to");
}

#[test]
fn files_of_the_old_form_that_lie() {
    let whole = fixture("tiny-bin-legacy");
    for size in (0..whole.len()).step_by(997).chain(whole.len() - 9..whole.len()) {
        assert!(read(&whole[..size]).is_err(), "cut at {size} of {}", whole.len());
    }
    refused(&whole[..whole.len() - 1], &format!("reaches to byte {}, and the file has", whole.len()));
    let start = whole.windows(3).position(|window| window == b"M\xe9\x03").unwrap();
    let mut newer = whole.clone();
    newer[start + 1] = 0xea;
    refused(&newer, "version Int(1002)");
    let name = b"little_endian";
    let little = whole.windows(name.len()).position(|window| window == name).unwrap();
    let truth = little + whole[little..].iter().position(|&byte| byte == 0x88).unwrap();
    let mut big = whole.clone();
    big[truth] = 0x89;
    refused(&big, "big-endian");
    let [magic, version, machine] = [&whole[..start - 2], &b"\x80\x02M\xe9\x03."[..], b"}."];
    let rest = |state: &[u8], keys: &[u8], data: &[u8]| [magic, version, machine, state, keys, data].concat();
    let six = state(&[("a", tensor(storage("FloatStorage", "k", 6), 0, &[6], &[1]))]);
    let keys = |keys: &[&str]| [b"](", &keys.iter().flat_map(|key| text(key)).collect::<Vec<u8>>()[..], b"e."].concat();
    let stored = |count: u64| [&count.to_le_bytes()[..], &[7; 24]].concat();
    assert_eq!(read(&rest(&six, &keys(&["k"]), &stored(6))).unwrap().len(), 1);
    refused(&rest(&six, &keys(&[]), &stored(6)), "its storage k is not in the file");
    refused(&rest(&six, &keys(&["x"]), &stored(6)), "storage x, which no tensor uses");
    refused(&rest(&six, &keys(&["k"]), &stored(5)), "should have 24 bytes and has 20");
    refused(&rest(&six, &keys(&["k"]), &stored(u64::MAX)), "storage k reaches to byte 737869762948382");
    refused(&rest(&six, &keys(&["k", "k"]), &[stored(6), stored(6)].concat()), "storage k is there twice");
    refused(&rest(&six, b"](Ne.", &stored(6)), "None as a storage's key");
}

/// Thousands of files that are wrong in one to four places, the same on every run.
#[test]
fn no_mutation_panics_or_leads_out_of_the_file() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let mut read_anyway = 0;
    for name in ["tiny-bin", "tiny-bin-lmhead", "tiny-bin-legacy"] {
        let whole = fixture(name);
        for _ in 0..3000 {
            let mut bytes = whole.clone();
            for _ in 0..=random(3) {
                // Pickles are at the beginning, an archive's directory at the end; between are numbers.
                let edge = random(5000).min(bytes.len() - 1);
                let at = if random(2) == 0 { edge } else { bytes.len() - 1 - edge };
                match random(4) {
                    0 => bytes[at] = random(256) as u8,
                    1 => bytes[at] ^= 1 << random(8),
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.copy_within(at.saturating_sub(9)..at, random(at.saturating_sub(9) + 1)),
                }
            }
            let Ok(found) = read(&bytes) else { continue };
            read_anyway += 1;
            for (name, tensor) in found {
                assert!(bytes.get(tensor.range.clone()).is_some(), "{name} lies at {:?}", tensor.range);
            }
        }
    }
    assert!(read_anyway > 100, "most mutations hit what is checked, {read_anyway} did not");
}
