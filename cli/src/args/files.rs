//! Arguments about other systems' files: `data`, `ranktable`.

use std::net::IpAddr;
use std::path::PathBuf;

use bloomery::data::make::{DataOptions, Form, Layout};
use bloomery::rank_table::{Devices, HCCN, MakeOptions};
use clap::{Args, Subcommand, ValueEnum, value_parser};

use super::values::whole;

/// `data`
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Examples:\n  bloomery data make alpaca_data.json alpaca.mindrecord --tokenizer MODEL_DIR\n  bloomery data show alpaca.mindrecord --rows 1 --tokenizer MODEL_DIR"
)]
pub(crate) struct Data {
    /// What to do
    #[command(subcommand)]
    pub(crate) what: DataCommand,
}

/// What is done with data sets.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Turn an instruction set into a MindRecord data set
    Make(MakeData),
    /// Show what a MindRecord data set holds
    Show(ShowData),
}

/// `data make`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bloomery data make alpaca_data.json alpaca.mindrecord --tokenizer MODEL_DIR\n  bloomery data make train_2M_CN.json.gz belle.mindrecord --tokenizer MODEL_DIR --template belle --packed --shards 4\n  bloomery data make alpaca_data.json dataset.mindrecord --tokenizer MODEL_DIR --compat mindformers --N 51200"
)]
pub(crate) struct MakeData {
    /// A JSON array of records with instruction, input and output, as Alpaca has it; or a record a line, also with
    /// conversations, as BELLE has it; either perhaps gzipped
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The data set; of several shards the beginning of their names
    #[arg(value_name = "OUT.mindrecord")]
    output: PathBuf,
    /// The model's folder (with a config.json its vocabulary is compared), a tokenizer.json, an artifact or a model's name
    #[arg(long, value_name = "DIR")]
    tokenizer: PathBuf,
    /// What is put around a record [default: belle for conversations, alpaca for others]
    #[arg(long, value_enum)]
    template: Option<DataTemplate>,
    /// Ids of a row; with --compat mindformers one less. A sample that does not fit with its end is cut, and counted
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = value_parser!(u64).range(2..=1 << 20))]
    seq_length: u64,
    /// How many records, from the first on; all if not above 0
    #[arg(long = "N", value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    records: i64,
    /// How many files
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = value_parser!(u64).range(1..=1000))]
    shards: u64,
    /// Put as many samples into a row as fit, and note where each begins
    #[arg(long, conflicts_with = "compat")]
    packed: bool,
    /// Rows as another program makes them
    #[arg(long, value_enum, conflicts_with = "template")]
    compat: Option<Compat>,
    /// Leave rows out that lack fields, and count them
    #[arg(long)]
    skip_bad: bool,
    /// Replace files of that name; of a data set with more shards the others are removed
    #[arg(long)]
    force: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `--template`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DataTemplate {
    /// Alpaca's, with the input where there is one and without else
    Alpaca,
    /// Alpaca's without an input; one that is there stands below the instruction
    AlpacaNoInput,
    /// BELLE's, Human and Assistant
    Belle,
}

/// `--compat`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Compat {
    /// Those of MindFormers' make_mindrecord.py: negated ids of prompts, one id more, its template and tokenizer
    Mindformers,
}

impl MakeData {
    /// The library's options.
    pub(crate) fn options(&self) -> DataOptions {
        let template = self.template.map(|template| match template {
            DataTemplate::Alpaca => Form::Alpaca,
            DataTemplate::AlpacaNoInput => Form::AlpacaNoInput,
            DataTemplate::Belle => Form::Belle,
        });
        let (form, layout) = match self.compat {
            Some(Compat::Mindformers) => (Some(Form::MindFormers), Layout::MindFormers),
            None => (template, if self.packed { Layout::Packed } else { Layout::One }),
        };
        DataOptions {
            input: self.input.clone(),
            output: self.output.clone(),
            tokenizer: self.tokenizer.clone(),
            form,
            seq_length: self.seq_length as usize,
            records: usize::try_from(self.records).ok().filter(|records| *records > 0),
            shards: self.shards as usize,
            layout,
            skip_bad: self.skip_bad,
            force: self.force,
        }
    }
}

/// `data show`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bloomery data show alpaca.mindrecord --rows 1 --tokenizer MODEL_DIR")]
pub(crate) struct ShowData {
    /// A file of the data set: its others are found beside it
    #[arg(value_name = "FILE.mindrecord")]
    pub(crate) file: PathBuf,
    /// How many rows, from the first on
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = whole::<usize>)]
    pub(crate) rows: usize,
    /// A model's folder, a tokenizer.json, an artifact or a model's name: shows what ids say
    #[arg(long, value_name = "DIR")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `ranktable`
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Examples:\n  bloomery ranktable make --devices 8 --server-ip 192.168.0.1\n  bloomery ranktable merge hccl_8p_*.json -o hccl_2s_16p.json\n  bloomery ranktable check hccl_2s_16p.json"
)]
pub(crate) struct RankTables {
    /// What to do
    #[command(subcommand)]
    pub(crate) what: RankTableCommand,
}

/// What is done with rank tables.
#[derive(Debug, Subcommand)]
pub(crate) enum RankTableCommand {
    /// Make the table of one server
    Make(MakeTable),
    /// Join the tables of several servers, and number their ranks
    Merge(MergeTables),
    /// Compare a table with what Ascend 910A asks for, and say what to do
    Check(CheckTable),
}

/// `ranktable make`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bloomery ranktable make --devices 8 --server-ip 192.168.0.1\n  bloomery ranktable make --devices 4,5 --server-ip 192.168.0.1 --device-ips addresses.txt -o two.json"
)]
pub(crate) struct MakeTable {
    /// How many devices, from 0 on; or which: 0,1,4,5 or [0,8)
    #[arg(long, value_name = "N|LIST")]
    devices: Devices,
    /// The server's address
    #[arg(long, value_name = "IP")]
    server_ip: IpAddr,
    /// The addresses of the devices' own cards: lines as in /etc/hccn.conf (address_0=192.168.100.101), or an address a line
    #[arg(long, value_name = "FILE", default_value = HCCN)]
    device_ips: PathBuf,
    #[command(flatten)]
    written: WrittenTable,
}

/// Where a table goes.
#[derive(Debug, Args)]
struct WrittenTable {
    /// The table [default: hccl_8p_01234567_IP.json of one server, hccl_2s_16p.json of several]
    #[arg(short, long, value_name = "FILE.json")]
    output: Option<PathBuf>,
    /// Replace a file of that name
    #[arg(long)]
    force: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl MakeTable {
    /// The library's options.
    pub(crate) fn options(&self) -> MakeOptions {
        MakeOptions {
            devices: self.devices.clone(),
            server: self.server_ip,
            addresses: self.device_ips.clone(),
            output: self.written.output.clone(),
            force: self.written.force,
        }
    }

    pub(crate) fn json(&self) -> bool {
        self.written.json
    }
}

/// `ranktable merge`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bloomery ranktable merge hccl_8p_*.json -o hccl_2s_16p.json")]
pub(crate) struct MergeTables {
    /// The tables of single servers, in any order
    #[arg(value_name = "FILE.json", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    written: WrittenTable,
}

impl MergeTables {
    pub(crate) fn output(&self) -> Option<&std::path::Path> {
        self.written.output.as_deref()
    }

    pub(crate) fn force(&self) -> bool {
        self.written.force
    }

    pub(crate) fn json(&self) -> bool {
        self.written.json
    }
}

/// `ranktable check`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bloomery ranktable check hccl_2s_16p.json")]
pub(crate) struct CheckTable {
    /// The table
    #[arg(value_name = "FILE.json")]
    pub(crate) file: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}
