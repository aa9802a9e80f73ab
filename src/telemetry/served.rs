//! Serves the metrics while the job runs, and announces to Prometheus where.

use std::error::Error;
use std::sync::Arc;

use crate::model::shared::lock;
use crate::plan::WebPlan;
use crate::telemetry::messages::News;
use crate::telemetry::prometheus::file_sd::{Announcement, FileSdError, ScrapeTarget};
use crate::telemetry::published::Published;
use crate::telemetry::warn::Warnings;
use crate::telemetry::web;

/// The server of the metrics, if there is one, and what leads Prometheus to it.
pub(super) struct Served {
    announcement: Option<Announcement>,
    is_open: bool,
}

impl Served {
    /// Begins to serve, if that was asked for.
    pub(super) async fn begin(
        plan: &WebPlan,
        published: &Arc<Published>,
        warnings: &Arc<Warnings>,
        news: &News,
    ) -> Served {
        if !plan.is_asked() {
            return Served { announcement: None, is_open: false };
        }
        let (mut web, failures) = web::bind(plan).await;
        failures.iter().for_each(|text| warnings.always(&format!("{text}; the job goes on")));
        let for_web = Arc::clone(warnings);
        web.on_failure(move |text| for_web.always(text));
        let addresses = web.addresses();
        let scheme = if web.is_tls() { "https" } else { "http" };
        for address in &addresses {
            let text = format!("metrics at {scheme}://{address}{}", plan.metrics_path);
            // Nobody can know which port was free.
            if plan.listen.iter().any(|asked| asked.ends_with(":0")) {
                warnings.always(&text);
            }
            lock(news).push(text);
        }
        let target = ScrapeTarget {
            addresses: &addresses,
            metrics_path: &plan.metrics_path,
            is_tls: web.is_tls(),
            identity: &published.identity,
        };
        let mut announcement = None;
        if let (Some(file), false) = (&plan.file_sd, addresses.is_empty()) {
            match Announcement::make(file, &target).await {
                Ok(made) => announcement = Some(made),
                Err(error) => report_file_sd(warnings, &error),
            }
        }
        let is_open = !addresses.is_empty();
        // It ends with the runtime.
        drop(tokio::spawn(web.serve(Arc::clone(published))));
        Served { announcement, is_open }
    }

    /// Whether anybody can scrape.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Takes back what leads to us.
    pub(super) async fn end(self, warnings: &Warnings) {
        let Some(announcement) = self.announcement else { return };
        if let Err(error) = announcement.withdraw().await {
            report_file_sd(warnings, &error);
        }
    }
}

fn report_file_sd(warnings: &Warnings, error: &FileSdError) {
    let reason = error.source().map(ToString::to_string).unwrap_or_default();
    warnings.once("file_sd", &format!("could not {error}: {reason}"));
}
