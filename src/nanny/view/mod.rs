//! Answers as text: tables, plots, and cells of the record in words.

pub mod advice;
pub mod findings;
pub mod headings;
pub mod output;
pub mod plot;
pub mod report;
pub mod screen;
pub mod table;
pub mod words;
