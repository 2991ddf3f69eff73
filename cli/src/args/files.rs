//! Arguments about other systems' files: `ranktable`.

use std::net::IpAddr;
use std::path::PathBuf;

use bloomery::rank_table::{Devices, HCCN, MakeOptions};
use clap::{Args, Subcommand};

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
