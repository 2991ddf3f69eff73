//! `data`: instruction sets become the MindRecord data sets that training reads, and data sets are looked at.
//!
//! [`make`](make::make) reads records one by one (`records`), turns them to ids on all threads (`sample`), and lays these out
//! in rows (`rows`); [`show`](show::show) prints what a data set holds.

pub mod make;
mod records;
mod rows;
mod sample;
pub mod show;
