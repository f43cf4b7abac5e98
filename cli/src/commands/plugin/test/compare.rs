//! What a plugin derived, beside what was expected: line by line, with what is missing and what is too much.

use std::path::Path;

use anyhow::anyhow;
use serde_json::Value;

use crate::exit::Failure;
use crate::output::shown;

/// Lines that are alike and shown around a difference.
const CONTEXT: usize = 2;
/// Pairs of lines that are compared to find the shortest difference; beyond that, all between what is alike at the start
/// and at the end counts as different.
const PAIRS_MAX: usize = 4_000_000;

/// A line of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    /// Both have it: the number of the derived record.
    Alike(usize),
    /// It was expected, and was not derived: its number among those expected.
    Missing(usize),
    /// It was derived, and was not expected: its number among those derived.
    TooMuch(usize),
}

/// Prints the difference, if there is any.
///
/// # Errors
/// [`Failure::Refused`] when there is.
pub fn compare(path: &Path, expected: &[Value], derived: &[Value]) -> Result<(), Failure> {
    let edits = edits(expected, derived);
    let count = |of: fn(&Edit) -> bool| edits.iter().filter(|edit| of(edit)).count();
    let missing = count(|edit| matches!(edit, Edit::Missing(_)));
    let too_much = count(|edit| matches!(edit, Edit::TooMuch(_)));
    if missing + too_much == 0 {
        eprintln!("all {} records are as {} expects them", derived.len(), path.display());
        return Ok(());
    }
    eprintln!("--- expected: {}\n+++ derived", path.display());
    let is_near = |at: usize| {
        let around = &edits[at.saturating_sub(CONTEXT)..edits.len().min(at + CONTEXT + 1)];
        around.iter().any(|edit| !matches!(edit, Edit::Alike(_)))
    };
    let mut left_out = 0;
    for (at, edit) in edits.iter().enumerate() {
        let (mark, line) = match edit {
            Edit::Alike(_) if !is_near(at) => {
                left_out += 1;
                continue;
            }
            Edit::Alike(number) => (' ', &derived[*number]),
            Edit::Missing(number) => ('-', &expected[*number]),
            Edit::TooMuch(number) => ('+', &derived[*number]),
        };
        if left_out > 0 {
            eprintln!("@@ {left_out} records alike @@");
            left_out = 0;
        }
        eprintln!("{mark}{}", shown(&line.to_string()));
    }
    let why =
        format!("what is derived is not what is expected: {missing} records missing, {too_much} too many");
    Err(anyhow!(why).into())
}

/// Whether a derived record is as expected: every field that is given is the same.
fn is_as(expected: &Value, derived: &Value) -> bool {
    let fields = expected.as_object().into_iter().flatten();
    fields.into_iter().all(|(field, value)| derived.get(field).unwrap_or(&Value::Null) == value)
}

fn edits(expected: &[Value], derived: &[Value]) -> Vec<Edit> {
    let alike = |(expected, derived): &(&Value, &Value)| is_as(expected, derived);
    let before = expected.iter().zip(derived).take_while(alike).count();
    let (expected, derived) = (&expected[before..], &derived[before..]);
    let after = expected.iter().rev().zip(derived.iter().rev()).take_while(alike).count();
    let (expected, derived) = (&expected[..expected.len() - after], &derived[..derived.len() - after]);
    let mut edits: Vec<Edit> = (0..before).map(Edit::Alike).collect();
    let between = match expected.len().saturating_mul(derived.len()) <= PAIRS_MAX {
        true => shortest(expected, derived),
        false => {
            (0..expected.len()).map(Edit::Missing).chain((0..derived.len()).map(Edit::TooMuch)).collect()
        }
    };
    edits.extend(between.into_iter().map(|edit| match edit {
        Edit::Alike(number) => Edit::Alike(before + number),
        Edit::Missing(number) => Edit::Missing(before + number),
        Edit::TooMuch(number) => Edit::TooMuch(before + number),
    }));
    let behind = before + derived.len();
    edits.extend((behind..behind + after).map(Edit::Alike));
    edits
}

/// The difference with the most lines alike, by the table of longest common subsequences.
fn shortest(expected: &[Value], derived: &[Value]) -> Vec<Edit> {
    let width = derived.len() + 1;
    let mut common = vec![0_u32; (expected.len() + 1) * width];
    for e in (0..expected.len()).rev() {
        for d in (0..derived.len()).rev() {
            common[e * width + d] = if is_as(&expected[e], &derived[d]) {
                common[(e + 1) * width + d + 1] + 1
            } else {
                common[(e + 1) * width + d].max(common[e * width + d + 1])
            };
        }
    }
    let (mut e, mut d) = (0, 0);
    let mut edits = Vec::new();
    while e < expected.len() || d < derived.len() {
        let both = e < expected.len() && d < derived.len();
        if both && is_as(&expected[e], &derived[d]) {
            edits.push(Edit::Alike(d));
            (e, d) = (e + 1, d + 1);
        } else if d == derived.len() || (both && common[(e + 1) * width + d] >= common[e * width + d + 1]) {
            edits.push(Edit::Missing(e));
            e += 1;
        } else {
            edits.push(Edit::TooMuch(d));
            d += 1;
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(numbers: &[u32]) -> Vec<Value> {
        numbers.iter().map(|number| json!({ "value": number, "offset": 9 })).collect()
    }

    fn expected(numbers: &[u32]) -> Vec<Value> {
        numbers.iter().map(|number| json!({ "value": number })).collect()
    }

    fn drawn(e: &[u32], d: &[u32]) -> String {
        let edits = edits(&expected(e), &values(d));
        let edit = |edit: &Edit| match edit {
            Edit::Alike(number) => format!(" {}", d[*number]),
            Edit::Missing(number) => format!("-{}", e[*number]),
            Edit::TooMuch(number) => format!("+{}", d[*number]),
        };
        edits.iter().map(edit).collect::<Vec<_>>().join("")
    }

    #[test]
    fn a_difference_is_as_short_as_it_can_be() {
        assert_eq!(drawn(&[1, 2, 3], &[1, 2, 3]), " 1 2 3");
        assert_eq!(drawn(&[1, 2, 3], &[1, 3]), " 1-2 3");
        assert_eq!(drawn(&[1, 3], &[1, 2, 3]), " 1+2 3");
        assert_eq!(drawn(&[1, 2, 3, 4], &[1, 3, 5, 4]), " 1-2 3+5 4");
        assert_eq!(drawn(&[], &[1]), "+1");
        assert_eq!(drawn(&[1], &[]), "-1");
        assert_eq!(drawn(&[1, 1], &[1]), " 1-1");
    }

    #[test]
    fn only_the_fields_that_are_given_are_compared() {
        let derived = json!({ "topic": "t", "key": null, "value": { "a": 1 }, "offset": 4 });
        for (line, same) in [
            (json!({ "value": { "a": 1 } }), true),
            (json!({ "topic": "t", "key": null }), true),
            (json!({ "value": { "a": 2 } }), false),
            (json!({ "headers": [] }), false),
            (json!({ "headers": null }), true),
            (json!({}), true),
        ] {
            assert_eq!(is_as(&line, &derived), same, "{line}");
        }
        assert!(compare(Path::new("x"), &expected(&[1]), &values(&[2])).is_err());
        assert!(compare(Path::new("x"), &expected(&[2]), &values(&[2])).is_ok());
    }
}
