//! Where the figures go: tables in Markdown, or a JSON object a line. Each line is printed as soon as it is known.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::figures::Spread;

/// Prints tables to standard output.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    is_json: bool,
}

/// A table that has begun.
#[derive(Debug)]
pub(crate) struct Table {
    is_json: bool,
    title: &'static str,
    columns: &'static [&'static str],
}

/// A figure, or what it is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    Count(u64),
    /// With so many decimals.
    Number(f64, usize),
    /// What a table is made for.
    Ratio(f64),
    /// The least and the most, with so many decimals.
    Range(f64, f64, usize),
}

impl Report {
    /// Tables, or lines of JSON.
    pub const fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// Begins a table. In JSON, `title` is the value of `table` in each object, and the columns are the other keys.
    pub(crate) fn table(self, title: &'static str, columns: &'static [&'static str]) -> io::Result<Table> {
        if !self.is_json {
            let rule = "|---".repeat(columns.len());
            print(&format!("\n**{title}**\n\n| {} |\n{rule}|", columns.join(" | ")))?;
        }
        Ok(Table { is_json: self.is_json, title, columns })
    }

    /// Says something that is no figure; in JSON under the key `note`.
    pub(crate) fn note(self, text: &str) -> io::Result<()> {
        if self.is_json { print(&json!({ "note": text }).to_string()) } else { print(&format!("\n{text}")) }
    }
}

impl Table {
    /// Prints a line: a cell for each column.
    pub(crate) fn row(&self, cells: &[Cell]) -> io::Result<()> {
        if self.is_json {
            let figures = self.columns.iter().zip(cells);
            let mut object: Map<_, _> =
                figures.map(|(column, cell)| ((*column).to_owned(), cell.json())).collect();
            object.insert("table".to_owned(), self.title.into());
            return print(&Value::Object(object).to_string());
        }
        let cells: Vec<String> = cells.iter().map(Cell::text).collect();
        print(&format!("| {} |", cells.join(" | ")))
    }
}

impl Cell {
    pub(crate) fn text_of(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) const fn count(count: usize) -> Self {
        Self::Count(count as u64)
    }

    /// The two ends of a spread of ratios.
    pub(crate) const fn ends(spread: Spread) -> Self {
        Self::Range(spread.least, spread.most, 2)
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Count(count) => count.to_string(),
            Self::Number(number, decimals) => format!("{number:.decimals$}"),
            Self::Ratio(ratio) => format!("**{ratio:.2}**"),
            Self::Range(least, most, decimals) => format!("{least:.decimals$} to {most:.decimals$}"),
        }
    }

    /// What is no number is `null`.
    fn json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Count(count) => (*count).into(),
            Self::Number(number, _) | Self::Ratio(number) => (*number).into(),
            Self::Range(least, most, _) => json!([least, most]),
        }
    }
}

fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}
