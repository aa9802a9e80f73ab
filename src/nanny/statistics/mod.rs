//! Numbers about many runs or calls; pure.

pub mod quantile;
