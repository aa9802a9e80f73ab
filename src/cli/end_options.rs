//! The options about what is done once the end of the run is known.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::values;
use crate::plan::HookPlan;

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "At the end")]
pub(super) struct EndOptions {
    /// After a failure, write the verdict and the last lines of standard error into FILE, at most
    /// 4096 bytes [default in Kubernetes: /dev/termination-log]
    #[arg(
        long,
        value_name = "FILE",
        env = "CHILDMINDER_TERMINATION_LOG",
        hide_env = true,
        help_heading = "At the end"
    )]
    pub(super) termination_log: Option<PathBuf>,
    /// Run CMD by /bin/sh once the run has failed, with CHILDMINDER_VERDICT, CHILDMINDER_EVIDENCE
    /// and more in its environment (docs/hooks.md); it never changes the exit status
    #[arg(long, value_name = "CMD", env = "CHILDMINDER_ON_FAILURE", hide_env = true)]
    on_failure: Option<OsString>,
    /// The same, once the run has succeeded
    #[arg(long, value_name = "CMD", env = "CHILDMINDER_ON_SUCCESS", hide_env = true)]
    on_success: Option<OsString>,
    /// The same, in any case, behind the other
    #[arg(long, value_name = "CMD", env = "CHILDMINDER_ON_END", hide_env = true)]
    on_end: Option<OsString>,
    /// How long each may take before it is killed
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = values::positive_duration, env = "CHILDMINDER_HOOK_TIMEOUT", hide_env = true)]
    hook_timeout: Duration,
}

impl From<EndOptions> for HookPlan {
    fn from(typed: EndOptions) -> HookPlan {
        let EndOptions { on_failure, on_success, on_end, hook_timeout, termination_log: _ } = typed;
        HookPlan { on_failure, on_success, on_end, timeout: hook_timeout }
    }
}
