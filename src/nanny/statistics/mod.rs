//! Numbers about many runs or calls; pure.

pub mod attribute;
pub mod campaigns;
pub mod log2_histogram;
pub mod names;
pub mod patterns;
pub mod quantile;
pub mod run_table;
pub mod senders;
pub mod signs;
pub mod stratified;
pub mod summary;
