//! Where answers come from: rows of records, logs, and the processes of this host.

pub mod damage;
pub mod foreign;
pub mod index;
pub mod jobs;
pub mod log_summary;
pub mod parts;
pub mod presence;
pub mod proof;
pub mod request;
