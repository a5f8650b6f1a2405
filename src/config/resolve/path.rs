//! Dotted paths such as `source.0.columns."total day"`: the names of values, everywhere.
//!
//! A segment that is no bare TOML key is quoted, so that a path is also a TOML key.

/// `path` followed by `key`.
pub fn join(path: &str, key: &str) -> String {
    let bare =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let key = if bare { key.to_owned() } else { quote(key) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The path without its last segment; empty for a single segment.
pub fn parent(path: &str) -> &str {
    dots(path).last().map_or("", |&dot| &path[..dot])
}

/// Whether `path` is `folder` or lies below it.
pub fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The segments, unquoted.
pub fn split(path: &str) -> Vec<String> {
    let mut starts = vec![0];
    let mut ends = dots(path);
    starts.extend(ends.iter().map(|dot| dot + 1));
    ends.push(path.len());
    starts.into_iter().zip(ends).map(|(from, to)| unquote(&path[from..to])).collect()
}

/// Byte positions of the dots that separate segments.
fn dots(path: &str) -> Vec<usize> {
    let (mut quoted, mut escaped) = (false, false);
    let mut found = Vec::new();
    for (at, c) in path.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '.' if !quoted => found.push(at),
            _ => {}
        }
    }
    found
}

fn quote(key: &str) -> String {
    format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))
}

fn unquote(segment: &str) -> String {
    match segment.strip_prefix('"').and_then(|s| s.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => segment.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart_as_they_were_put_together() {
        for keys in
            [&["train", "patience"][..], &["source", "0", "a.b"], &["a \"b\".c", "d"], &[""]]
        {
            let path = keys.iter().fold(String::new(), |path, key| join(&path, key));
            assert_eq!(split(&path), keys, "{path}");
            let folder = keys[..keys.len() - 1].iter().fold(String::new(), |p, key| join(&p, key));
            assert_eq!(parent(&path), folder);
        }
    }

    #[test]
    fn within_is_by_segment() {
        assert!(is_within("a.b", "a") && is_within("a", "a"));
        assert!(!is_within("ab", "a") && !is_within("a", "a.b"));
    }
}
