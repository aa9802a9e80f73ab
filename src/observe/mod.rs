//! Reads the kernel's files about the job while it runs: what it uses, and how busy the host is.
//!
//! It starts, signals and reaps nothing, and it decides nothing; `run` asks for it and shows what
//! it found. The root path (`/proc`) and the clocks are given to it, so tests bring their own.
//!
//! Parsing is apart from reading: what the bytes mean is in pure functions, `model::proc_stat`
//! among them.

pub mod autopsy;
pub mod cgroup;
pub mod crash;
pub mod files;
pub mod host;
pub mod image;
pub mod members;
pub mod neighbours;
pub mod pressure;
pub mod process_memory;
pub mod processor;
pub mod procfs;
pub mod recorder;
pub mod sampler;
pub mod stacks;
pub mod strangers;
pub mod watch;
