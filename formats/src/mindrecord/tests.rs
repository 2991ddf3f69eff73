//! What MindSpore wrote and read; what is written read again; damage of every part.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value as Json, json};

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore/mindrecord").join(name)
}

/// What MindSpore's `MindDataset` gave of a fixture, and the file to open.
fn expected(name: &str) -> (Json, PathBuf) {
    let json: Json = serde_json::from_slice(&fs::read(fixture(name).join("expected.json")).unwrap()).unwrap();
    let path = fixture(name).join(json["open"].as_str().unwrap());
    (json, path)
}

/// A value as `expected.json` has it.
fn shown(value: &Value, field: &Field) -> Json {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match (value, field) {
        (Value::Int(number), _) => json!(number),
        (Value::Float(number), _) => json!(number),
        (Value::Text(text), _) => json!(text),
        (Value::Bytes(bytes), _) => json!({"bytes": hex(bytes)}),
        (Value::Ints(numbers), Field::Array { shape, .. }) if shape[..] == [2, -1] => {
            json!(numbers.chunks(numbers.len() / 2).collect::<Vec<_>>())
        }
        (Value::Ints(numbers), _) => json!(numbers),
        (Value::Floats(numbers), _) => json!(numbers),
    }
}

fn as_json(data: &MindRecord) -> Vec<Json> {
    let row = |row: Result<Row, FormatError>| {
        let (row, fields) = (row.unwrap(), &data.schema().fields);
        Json::Object(row.iter().zip(fields).map(|(value, (name, field))| (name.clone(), shown(value, field))).collect())
    };
    data.iter().map(row).collect()
}

#[test]
fn mindspores_files_are_read_as_mindspore_reads_them() {
    for name in ["one-int32", "one-int64", "four", "mixed", "mixed-one-index", "version-2.0"] {
        let (expected, path) = expected(name);
        assert!(MindRecord::is_one(&path), "{name}");
        let data = MindRecord::open(&path).unwrap();
        assert_eq!(data.schema().columns(), expected["schema"], "{name}");
        let rows = as_json(&data);
        assert_eq!(Json::from(rows.clone()), expected["rows"], "{name}");
        let last = data.row(data.rows() - 1).unwrap();
        assert_eq!(last, data.iter().last().unwrap().unwrap());
        assert_eq!(rows.len(), data.shard_rows().sum::<usize>());
    }
    // Any file of a set stands for all.
    let last = MindRecord::open(&fixture("four").join("dataset.mindrecord3")).unwrap();
    assert_eq!((last.rows(), last.files().len()), (10, 4));
}

#[test]
fn rows_lie_in_several_pages() {
    let (expected, path) = expected("paged");
    let data = MindRecord::open(&path).unwrap();
    let rows = expected["rows"].as_array().unwrap();
    assert_eq!(data.rows(), rows.len());
    for (row, expected) in data.iter().zip(rows) {
        let Value::Ints(ids) = &row.unwrap()[0] else { panic!("it is a list") };
        assert_eq!(json!([ids.len(), &ids[..4]]), json!([expected["input_ids"][0], expected["input_ids"][1]]));
    }
    let sizes = data.sizes();
    assert!(sizes.least > 800 && sizes.most >= sizes.least && sizes.total >= sizes.least * data.rows() as u64);
}

/// Columns of every type, and rows that reach their ends.
fn every_type() -> (Schema, Vec<Row>) {
    let fields = [
        ("name", Field::Text),
        ("label", Field::Number(Element::Int32)),
        ("big", Field::Number(Element::Int64)),
        ("ratio", Field::Number(Element::Float32)),
        ("score", Field::Number(Element::Float64)),
        ("blob", Field::Bytes),
        ("ids", Field::list(Element::Int32)),
        ("grid", Field::Array { element: Element::Int64, shape: vec![2, -1] }),
        ("weights", Field::list(Element::Float32)),
        ("precise", Field::Array { element: Element::Float64, shape: vec![2] }),
    ];
    let schema = Schema::new("all of it", fields.map(|(name, field)| (name.to_owned(), field))).unwrap();
    let row = |i: i64| {
        let values = BTreeMap::from([
            ("name", Value::Text(format!("步{i}"))),
            ("label", Value::Int(i - 3)),
            ("big", Value::Int(i64::MIN + i)),
            ("ratio", Value::Float((0.1f32 * i as f32).into())),
            ("score", Value::Float(0.1 * i as f64)),
            ("blob", Value::Bytes(vec![7; i as usize])),
            ("ids", Value::Ints((-i..=250 * i).collect())),
            ("grid", Value::Ints(vec![i << 40, -i, i, 0])),
            ("weights", Value::Floats(vec![0.5; i as usize])),
            ("precise", Value::Floats(vec![0.1, i as f64])),
        ]);
        values.into_values().collect()
    };
    (schema, (0..7).map(row).collect())
}

fn write(path: &Path, schema: &Schema, rows: &[Row], shards: usize) {
    let mut writer = Writer::begin(path, schema.clone(), shards).unwrap();
    rows.iter().try_for_each(|row| writer.push(row)).unwrap();
    assert!(writer.finish(&|| false).unwrap());
}

#[test]
fn what_is_written_is_read_again_from_any_number_of_shards() {
    let (schema, rows) = every_type();
    for shards in [1, 2, 3, 7, 11] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mindrecord");
        write(&path, &schema, &rows, shards);
        let files = names(&path, shards);
        let data = MindRecord::open(&files[shards - 1]).unwrap();
        assert_eq!((data.schema(), data.files().len()), (&schema, shards));
        assert_eq!(data.iter().map(Result::unwrap).collect::<Vec<_>>(), rows);
        let each: Vec<usize> = data.shard_rows().collect();
        assert!(each.iter().max().unwrap() - each.iter().min().unwrap() <= 1, "{each:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2 * shards);
        assert!(files[0].metadata().unwrap().len() < 200_000);
    }
    let named = names(Path::new("a"), 12);
    assert_eq!([&named[0], &named[11]], [Path::new("a00"), Path::new("a11")]);
}

#[test]
fn a_data_set_may_be_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    write(&path, &every_type().0, &[], 2);
    let data = MindRecord::open(&folder.path().join("a0")).unwrap();
    assert_eq!((data.rows(), data.sizes()), (0, Sizes::default()));
}

/// More than waits in memory: pages of MindSpore's size, one shard of them or several by a file of no name.
#[test]
fn much_data_goes_to_large_pages() {
    let schema =
        Schema::new("", [("a".to_owned(), Field::Bytes), ("n".to_owned(), Field::Number(Element::Int32))]).unwrap();
    let row = |i: usize| vec![Value::Bytes(vec![i as u8; 100_000 + i]), Value::Int(i as i64)];
    let rows: Vec<Row> = (0..800).map(row).collect();
    for shards in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, &schema, &rows, shards);
        let data = MindRecord::open(&names(&path, shards)[0]).unwrap();
        assert!(data.iter().map(Result::unwrap).eq(rows.iter().cloned()), "{shards}");
        assert_eq!(data.shards[0].header.page_size, 32 << 20);
        assert!(data.shards[0].header.pages.len() > 2);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2 * shards);
    }
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let (schema, rows) = every_type();
    let folder = tempfile::tempdir().unwrap();
    for finish in [false, true] {
        let mut writer = Writer::begin(&folder.path().join("a"), schema.clone(), 2).unwrap();
        rows.iter().try_for_each(|row| writer.push(row)).unwrap();
        if finish {
            assert!(!writer.finish(&|| true).unwrap());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn values_of_other_types_are_not_written() {
    let (schema, rows) = every_type();
    let mut writer = Writer::begin(Path::new("a"), schema.clone(), 1).unwrap();
    writer.push(&rows[0]).unwrap();
    let mut check = |column: &str, value: Value, part: &str| {
        let mut row = rows[1].clone();
        row[schema.position(column).unwrap()] = value;
        let error = writer.push(&row).unwrap_err().to_string();
        assert!(error.contains("row 1 cannot be written") && error.contains(column) && error.contains(part), "{error}");
    };
    check("label", Value::Int(1 << 31), "int32 has 2147483648");
    check("ids", Value::Ints(vec![1, -(1 << 40)]), "int32 has");
    check("ids", Value::Ints(vec![]), "has no number");
    check("grid", Value::Ints(vec![1, 2, 3]), "of shape [2, -1] has 3 numbers");
    check("precise", Value::Floats(vec![1.0]), "of shape [2] has 1");
    check("name", Value::Int(1), "its value Int(1)");
    assert!(writer.push(&rows[0][1..]).unwrap_err().to_string().contains("9 values for 10 columns"));
    let long = vec![0; 33 << 20];
    let mut row = rows[0].clone();
    row[schema.position("blob").unwrap()] = Value::Bytes(long);
    assert!(writer.push(&row).unwrap_err().to_string().contains("and a page 33554432"));
    for name in ["", "a b", "ä"] {
        assert!(Schema::new("", [(name.to_owned(), Field::Text)]).is_err());
    }
    assert!(Schema::new("", []).is_err());
}

/// A data set of two shards in a folder of its own, to be damaged.
struct Damaged(tempfile::TempDir);

impl Damaged {
    fn new() -> Damaged {
        let folder = tempfile::tempdir().unwrap();
        let (schema, rows) = every_type();
        write(&folder.path().join("a"), &schema, &rows, 2);
        Damaged(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Changes a file's bytes.
    fn bytes(self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Damaged {
        let mut bytes = fs::read(self.path(name)).unwrap();
        change(&mut bytes);
        fs::write(self.path(name), bytes).unwrap();
        self
    }

    /// Changes a word of the header for one that is as long.
    fn header(self, from: &str, to: &str) -> Damaged {
        assert_eq!(from.len(), to.len());
        self.bytes("a0", |bytes| {
            let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        })
    }

    fn sql(self, text: &str) -> Damaged {
        rusqlite::Connection::open(self.path("a0.db")).unwrap().execute_batch(text).unwrap();
        self
    }

    /// Opening, or reading all rows, says all these parts.
    fn says(self, parts: &[&str]) {
        let opened = MindRecord::open(&self.path("a0"));
        let read = opened.and_then(|data| data.iter().try_for_each(|row| row.map(drop)));
        let error = read.unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "{error:?} lacks {part:?}"));
    }
}

#[test]
fn damaged_headers_have_one_clear_error() {
    Damaged::new().bytes("a0", |bytes| bytes.truncate(5)).says(&["a0 is not a sound", "header", "5 bytes"]);
    Damaged::new().bytes("a0", |bytes| bytes.truncate(200)).says(&["header", "the file has 192"]);
    Damaged::new().bytes("a0", |bytes| bytes[5] = 1).says(&["header", "is this a MindRecord file?"]);
    Damaged::new().bytes("a0", |bytes| bytes[8] = b'[').says(&["header"]);
    Damaged::new().header("\"3.0\"", "\"4.0\"").says(&["version \"4.0\"", "2.0 and 3.0 are known"]);
    Damaged::new().header("BLOB_DATA", "BULB_DATA").says(&["page 0 is of a kind \"BULB_DATA\""]);
    Damaged::new().header("\"page_id\":1", "\"page_id\":7").says(&["page 1 is called 7"]);
    Damaged::new().header("\"a1\"", "\"/1\"").says(&["no plain name"]);
    Damaged::new().header("\"float64\"", "\"float16\"").says(&["column", "type \"float16\""]);
    Damaged::new().header("[2,-1]", "[2,-7]").says(&["column \"grid\" has shape [2,-7]"]);
    Damaged::new().header("\"blob\",", "\"bulb\",").says(&["blob_fields are"]);
    Damaged::new().header("\"big\":{", "\"bog\":{").says(&["a1", "other columns"]);
}

#[test]
fn damaged_pages_and_rows_have_one_clear_error() {
    let cut = Damaged::new().bytes("a0", |bytes| bytes.truncate(bytes.len() - 1));
    cut.says(&["a0", "page 1 ends at byte", "it was cut short"]);
    // Page 0 holds blobs: of the first row its length, then the length of its first array.
    let first = 16 << 10;
    Damaged::new().bytes("a0", |bytes| bytes[first] ^= 1).says(&["a0", "row 0 is damaged", "by page 0"]);
    Damaged::new().bytes("a0", |bytes| bytes[first + 8] = 1).says(&["row 0 is damaged", "where", "are left"]);
    Damaged::new().bytes("a0", |bytes| bytes[first + 15] += 1).says(&["row 0 is damaged"]);
    let raw = first + (32 << 10);
    Damaged::new().bytes("a0", |bytes| bytes[raw + 8] = 0xc0).says(&["row 0 is damaged", "0xc0"]);
    Damaged::new().bytes("a0", |bytes| bytes[raw + 10] = b'x').says(&["row 0 is damaged", "column big", "is missing"]);
}

#[test]
fn damaged_indices_have_one_clear_error() {
    let without = |name: &str| {
        let damaged = Damaged::new();
        fs::remove_file(damaged.path(name)).unwrap();
        damaged
    };
    without("a0.db").says(&["a0.db", "missing"]);
    without("a1.db").says(&["a1.db", "missing"]);
    without("a1").says(&["a0", "a data set with \"a1\"", "not beside it"]);
    Damaged::new().bytes("a0.db", |bytes| bytes.truncate(4096)).says(&["a0.db", "index cannot be used"]);
    Damaged::new().bytes("a0.db", |bytes| bytes.fill(7)).says(&["a0.db", "file is not a database"]);
    Damaged::new().bytes("a0.db", |bytes| bytes[4096..].fill(0x55)).says(&["a0.db", "index cannot be used"]);
    Damaged::new().bytes("a0.db", Vec::clear).says(&["a0.db", "no such table"]);
    Damaged::new().sql("DELETE FROM INDEXES WHERE ROW_ID = 3").says(&["a0.db", "it has 3 rows", "pages have 4"]);
    Damaged::new().sql("DELETE FROM INDEXES WHERE ROW_ID = 1").says(&["a0.db", "row 2 where row 1 belongs"]);
    Damaged::new().sql("UPDATE INDEXES SET PAGE_ID_RAW = 0").says(&["a0.db", "row 0", "of page 0"]);
    Damaged::new().sql("UPDATE INDEXES SET PAGE_ID_BLOB = 9").says(&["a0.db", "of page 9"]);
    Damaged::new().sql("UPDATE INDEXES SET PAGE_OFFSET_BLOB = -1").says(&["a0.db", "index cannot be used"]);
    Damaged::new().sql("UPDATE INDEXES SET PAGE_OFFSET_BLOB_END = 4294967295").says(&["a0.db", "to 4294967295"]);
    Damaged::new().sql("UPDATE INDEXES SET PAGE_OFFSET_RAW = PAGE_OFFSET_RAW_END").says(&["a0.db", "no such part"]);
    Damaged::new().sql("UPDATE INDEXES SET PAGE_OFFSET_RAW = 1").says(&["row 0 is damaged", "by the index"]);
    Damaged::new().sql("UPDATE SHARD_NAME SET NAME = 'b0'").says(&["a0.db", "index of \"b0\"", "beside \"a0\""]);
    Damaged::new().sql("DROP TABLE SHARD_NAME").says(&["a0.db", "SHARD_NAME"]);
}

#[test]
fn a_renamed_file_says_how_it_was_called() {
    let folder = tempfile::tempdir().unwrap();
    let (schema, rows) = every_type();
    write(&folder.path().join("a"), &schema, &rows, 1);
    for name in ["a", "a.db"] {
        fs::rename(folder.path().join(name), folder.path().join(name.replace('a', "b"))).unwrap();
    }
    let error = MindRecord::open(&folder.path().join("b")).unwrap_err().to_string();
    assert!(error.contains("a data set with \"a\"") && error.contains("keep the names"), "{error}");
    let error = MindRecord::open(&folder.path().join("b.db")).unwrap_err().to_string();
    assert!(error.contains("name that, without .db"), "{error}");
    assert!(!MindRecord::is_one(&folder.path().join("b.db")) && !MindRecord::is_one(folder.path()));
}

/// Whatever one byte of a file becomes, reading ends, and with an error or rows.
#[test]
fn no_changed_byte_ends_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let (schema, rows) = every_type();
    let path = folder.path().join("a");
    write(&path, &schema, &rows[..3], 1);
    let sound = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
    let (blobs, raws) = (16 << 10, (16 << 10) + (32 << 10));
    let interesting = (0..header).chain(blobs..blobs + 200).chain(raws..sound.len());
    for at in interesting {
        for to in [0, 0xff, sound[at].wrapping_add(1)] {
            let mut bytes = sound.clone();
            bytes[at] = to;
            fs::write(&path, bytes).unwrap();
            let _ = MindRecord::open(&path).map(|data| data.iter().filter(Result::is_ok).count());
        }
    }
}
