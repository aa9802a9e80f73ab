//! The pipelines of telemetry: what OpenTelemetry calls signals, a word that means signal(7) here.

use std::ops::{Index, IndexMut};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pipeline {
    Traces,
    Metrics,
    Logs,
}

impl Pipeline {
    /// The pipelines, in the order in which they are listed.
    pub const ALL: [Pipeline; 3] = [Pipeline::Traces, Pipeline::Metrics, Pipeline::Logs];

    /// Returns the word of the specification: in paths, labels and names of variables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Pipeline::Traces => "traces",
            Pipeline::Metrics => "metrics",
            Pipeline::Logs => "logs",
        }
    }
}

/// One value for each pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerPipeline<T> {
    pub traces: T,
    pub metrics: T,
    pub logs: T,
}

impl<T> PerPipeline<T> {
    /// Makes it of what a function returns for each.
    pub fn of(mut make: impl FnMut(Pipeline) -> T) -> PerPipeline<T> {
        let [traces, metrics, logs] = Pipeline::ALL.map(&mut make);
        PerPipeline { traces, metrics, logs }
    }

    /// Returns each with its pipeline.
    pub fn each(&self) -> impl Iterator<Item = (Pipeline, &T)> {
        Pipeline::ALL.into_iter().map(|pipeline| (pipeline, &self[pipeline]))
    }
}

impl<T> Index<Pipeline> for PerPipeline<T> {
    type Output = T;

    fn index(&self, pipeline: Pipeline) -> &T {
        match pipeline {
            Pipeline::Traces => &self.traces,
            Pipeline::Metrics => &self.metrics,
            Pipeline::Logs => &self.logs,
        }
    }
}

impl<T> IndexMut<Pipeline> for PerPipeline<T> {
    fn index_mut(&mut self, pipeline: Pipeline) -> &mut T {
        match pipeline {
            Pipeline::Traces => &mut self.traces,
            Pipeline::Metrics => &mut self.metrics,
            Pipeline::Logs => &mut self.logs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pipeline_has_its_own_value() {
        let mut words = PerPipeline::of(Pipeline::word);
        assert_eq!((words.traces, words.metrics, words.logs), ("traces", "metrics", "logs"));
        for pipeline in Pipeline::ALL {
            assert_eq!(words[pipeline], pipeline.word());
            words[pipeline] = "changed";
        }
        let seen: Vec<(Pipeline, &&str)> = words.each().collect();
        assert_eq!(seen, Pipeline::ALL.map(|pipeline| (pipeline, &"changed")));
    }
}
