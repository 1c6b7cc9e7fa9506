//! What a published description of a call says, held against a request.

use serde_json::Value;

use super::faulty::{Reply, Request};

/// The fields that a call takes: name, type, whether it must be there. Types: `s` text, `b` boolean,
/// `n` number, `o` object, `l` list of texts, `i` list of numbers.
pub type Fields = &'static [(&'static str, char, bool)];

/// Whether a body is as described.
pub fn fits(body: &Value, fields: Fields) -> Result<(), String> {
    let map = body.as_object().ok_or("the body is no object")?;
    for (name, value) in map {
        let known = fields.iter().find(|(known, ..)| known == name);
        let (_, kind, _) = known.ok_or_else(|| format!("{name} is no field"))?;
        let list = |is: fn(&Value) -> bool| value.as_array().is_some_and(|all| all.iter().all(is));
        let good = match kind {
            's' => value.is_string(),
            'b' => value.is_boolean(),
            'n' => value.is_number(),
            'o' => value.is_object(),
            'i' => list(Value::is_u64),
            _ => list(Value::is_string),
        };
        if !good {
            return Err(format!("{name} is {value}"));
        }
    }
    let missing = fields
        .iter()
        .find(|(name, _, must)| *must && !map.contains_key(*name));
    match missing {
        Some((name, ..)) => Err(format!("{name} is missing")),
        None => Ok(()),
    }
}

/// The value of a name in a query, decoded.
pub fn query(request: &Request, name: &str) -> Option<String> {
    let (_, query) = request.path.split_once('?')?;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(key, _)| *key == name);
    let (_, value) = found.next()?;
    Some(value.replace("%2F", "/").replace("%3A", ":"))
}

/// Names in a query that are not among the described ones, and values that are not allowed.
pub fn unknown_query(request: &Request, allowed: &[(&str, &[&str])]) -> Option<String> {
    let (_, query) = request.path.split_once('?')?;
    let mut pairs = query.split('&').filter(|pair| !pair.is_empty());
    let wrong = pairs.find(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let known = allowed.iter().find(|(name, _)| *name == key);
        known.is_none_or(|(_, values)| !values.is_empty() && !values.contains(&value))
    });
    wrong.map(|pair| format!("`{pair}` is no part of the query"))
}

/// JSON with a status.
pub fn json(status: u16, body: &Value) -> Reply {
    let headers = vec![("Content-Type", "application/json".to_owned())];
    Reply::Answer(status, headers, body.to_string())
}

/// A page of a list that gives out no more than `most` entries however many are asked for, and a
/// link to the next one if there is one.
pub fn page(request: &Request, size: &str, most: usize, list: &[Value]) -> Reply {
    let number = |name: &str| query(request, name).and_then(|text| text.parse::<usize>().ok());
    let size = number(size).unwrap_or(20).min(most).max(1);
    let page = number("page").unwrap_or(1).max(1);
    let from = ((page - 1) * size).min(list.len());
    let to = (from + size).min(list.len());
    let mut headers = vec![("Content-Type", "application/json".to_owned())];
    let rel = if to < list.len() { "next" } else { "first" };
    headers.push(("Link", format!("<http://forge/?page=x>; rel=\"{rel}\"")));
    let body = Value::from(list[from..to].to_vec());
    Reply::Answer(200, headers, body.to_string())
}
