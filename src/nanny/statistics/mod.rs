//! Numbers about many runs or calls; pure.

pub mod log2_histogram;
pub mod quantile;
pub mod summary;
