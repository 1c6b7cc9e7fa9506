//! Text to constraint.

use super::version::Partial;
use super::{Comparator, Constraint, ConstraintError, Operator};

/// Two-letter operators first, so that `>=` is not read as `>`.
const OPERATORS: &[(&str, Operator)] = &[
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterEqual),
    ("=>", Operator::GreaterEqual),
    ("<=", Operator::LessEqual),
    ("=<", Operator::LessEqual),
    ("~>", Operator::Tilde),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

pub(super) fn constraint(text: &str) -> Result<Constraint, ConstraintError> {
    let groups = text.split("||").map(group).collect::<Result<_, _>>()?;
    Ok(Constraint { groups })
}

fn group(text: &str) -> Result<Vec<Comparator>, ConstraintError> {
    if text.trim().is_empty() {
        return Ok(vec![Comparator {
            operator: Operator::Equal,
            operand: Partial::any(),
            text: "*".to_owned(),
        }]);
    }
    let mut comparators = Vec::new();
    for part in text.split(',') {
        and(part.trim(), &mut comparators)?;
    }
    Ok(comparators)
}

/// Comparators of a text without commas.
fn and(text: &str, comparators: &mut Vec<Comparator>) -> Result<(), ConstraintError> {
    let error = |part: &str, why| ConstraintError {
        part: part.to_owned(),
        why,
    };
    if text.is_empty() {
        return Err(error(",", "nothing stands beside the comma"));
    }
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let (operator, rest) = operator(word);
        // `>= 1.2`: the operator may stand alone before its version.
        let operand = match rest {
            "" => words
                .next()
                .ok_or_else(|| error(word, "a version is missing after the operator"))?,
            rest => rest,
        };
        let written = match rest {
            "" => format!("{word} {operand}"),
            _ => word.to_owned(),
        };
        let read = Partial::parse(operand).ok_or_else(|| {
            error(
                &written,
                "write a version such as 1, 1.2, 1.2.x or 1.2.3-rc.1",
            )
        })?;
        if words.peek() == Some(&"-") {
            words.next();
            let end = words
                .next()
                .ok_or_else(|| error(&written, "the range has no end"))?;
            if operator.is_some() {
                return Err(error(&written, "a range takes no operator"));
            }
            let read_end =
                Partial::parse(end).ok_or_else(|| error(end, "the end of a range is a version"))?;
            let text = format!("{operand} - {end}");
            comparators.push(Comparator {
                operator: Operator::GreaterEqual,
                operand: read,
                text: text.clone(),
            });
            comparators.push(Comparator {
                operator: Operator::LessEqual,
                operand: read_end,
                text,
            });
            continue;
        }
        comparators.push(Comparator {
            operator: operator.unwrap_or(Operator::Equal),
            operand: read,
            text: written,
        });
    }
    Ok(())
}

fn operator(word: &str) -> (Option<Operator>, &str) {
    OPERATORS
        .iter()
        .find_map(|(text, operator)| Some((Some(*operator), word.strip_prefix(text)?)))
        .unwrap_or((None, word))
}
