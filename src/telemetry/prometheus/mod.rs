//! Prometheus: its text formats, and the ways to it but the web server.

pub mod exposition;
pub mod file_sd;
pub mod pushgateway;
pub mod textfile;
