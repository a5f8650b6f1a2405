//! Small pieces of HTML, and how numbers are written in it.

/// Makes any text safe inside an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// A titled part of the page; `body` is HTML.
pub(super) fn section(id: &str, title: &str, body: &str) -> String {
    format!("<section id=\"{id}\">\n<h2>{title}</h2>\n{body}</section>\n")
}

/// A bullet list; the items are HTML.
pub(super) fn list(items: &[String]) -> String {
    let items: String = items.iter().map(|item| format!("<li>{item}</li>\n")).collect();
    format!("<ul>\n{items}</ul>\n")
}

/// What stands where there is nothing to show.
pub(super) fn empty(text: &str) -> String {
    format!("<p class=\"empty\">{text}</p>\n")
}

/// A table that scrolls sideways on a narrow screen; all cells are HTML. The first column names
/// the row.
pub(super) fn table(caption: &str, head: &[String], rows: &[Vec<String>]) -> String {
    let head: String = head.iter().map(|cell| format!("<th scope=\"col\">{cell}</th>")).collect();
    let row = |cells: &Vec<String>| {
        let (name, values) = cells.split_first().expect("a row has a name");
        let values: String = values.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr><th scope=\"row\">{name}</th>{values}</tr>\n")
    };
    let body: String = rows.iter().map(row).collect();
    format!(
        "<div class=\"scroll\"><table>\n<caption>{caption}</caption>\n\
         <thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )
}

/// `12,345`
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `41.3 %`, with a space that does not break; `10 %` where the tenths are zero.
pub(super) fn percent(share: f64) -> String {
    format!("{}\u{a0}%", trimmed(share * 100.0))
}

/// One decimal, none where it is zero: `12.4`, `12`.
pub(super) fn trimmed(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// `4.2 s`, `3 min 20 s`, `2 h 05 min`
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1}\u{a0}s"),
        60..3600 => format!("{}\u{a0}min {:02}\u{a0}s", whole / 60, whole % 60),
        _ => format!("{}\u{a0}h {:02}\u{a0}min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_harmless() {
        assert_eq!(
            escape("<b a=\"1\" b='2'>&</b>"),
            "&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;&lt;/b&gt;"
        );
        assert_eq!(escape("Müller – 3 €"), "Müller – 3 €");
    }

    #[test]
    fn numbers_as_people_write_them() {
        let counts = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        for (n, text) in counts {
            assert_eq!(count(n), text);
        }
        let shares = [(0.1, "10 %"), (0.413, "41.3 %"), (0.0004, "0 %"), (1.0, "100 %")];
        for (share, text) in shares {
            assert_eq!(percent(share).replace('\u{a0}', " "), text);
        }
        let times =
            [(4.21, "4.2 s"), (59.96, "1 min 00 s"), (200.0, "3 min 20 s"), (7500.0, "2 h 05 min")];
        for (seconds, text) in times {
            assert_eq!(duration(seconds).replace('\u{a0}', " "), text);
        }
    }
}
