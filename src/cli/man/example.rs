//! The example file as sections of a manual page: one for each kind of table, with its keys and what is said of them.

use std::collections::BTreeSet;

use super::escaped;

/// A table of the example, switched on or commented out.
#[derive(Debug, Default)]
struct Table {
    /// `[issuers.NAME]`
    title: String,
    /// `[issuers.corp]`
    header: String,
    /// Paragraphs in front of it.
    intro: Vec<String>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: String,
    /// The value as it stands there, of several lines where it does.
    value: String,
    /// What is said of it, in front of it or behind it.
    comment: String,
}

/// The sections of `example`, in its order.
pub(super) fn sections(example: &str) -> String {
    let tables = tables(example);
    let mut text = String::new();
    let mut titles: Vec<&str> = Vec::new();
    for table in &tables {
        if titles.contains(&table.title.as_str()) {
            continue;
        }
        titles.push(&table.title);
        text.push_str(&format!(".SH \"{}\"\n", escaped(&table.title)));
        let mut shown: BTreeSet<&str> = BTreeSet::new();
        for table in tables.iter().filter(|other| other.title == table.title) {
            for paragraph in &table.intro {
                text.push_str(&format!(".PP\n{}\n", escaped(paragraph)));
            }
            // A table that has nothing new is an example.
            if table
                .entries
                .iter()
                .all(|entry| shown.contains(entry.key.as_str()))
                && !shown.is_empty()
            {
                text.push_str(&format!(".PP\n.RS 4\n.nf\n{}\n", escaped(&table.header)));
                for Entry { key, value, .. } in &table.entries {
                    text.push_str(&format!("{}\n", escaped(&format!("{key} = {value}"))));
                }
                text.push_str(".fi\n.RE\n");
                continue;
            }
            for entry in &table.entries {
                shown.insert(&entry.key);
                text.push_str(&term(entry));
            }
        }
    }
    text
}

fn term(Entry { key, value, comment }: &Entry) -> String {
    let lines = if value.contains('\n') {
        [
            format!("\\fB{}\\fR", escaped(key)),
            escaped(comment),
            format!(".nf\n{}\n.fi", escaped(value)),
        ]
    } else {
        [
            format!("\\fB{}\\fR = {}", escaped(key), escaped(value)),
            escaped(comment),
            String::new(),
        ]
    };
    // An empty line would be one on the page as well.
    lines
        .iter()
        .filter(|line| !line.is_empty())
        .fold(".TP\n".to_owned(), |text, line| text + line + "\n")
}

fn tables(example: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut paragraphs: Vec<String> = vec![String::new()];
    let mut lines = example.lines();
    while let Some(line) = lines.next() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if bare.starts_with('[') {
            let header = bare.split(" #").next().unwrap_or(bare).to_owned();
            // What stands in front of the first table is about the file.
            let intro = if tables.is_empty() {
                Vec::new()
            } else {
                std::mem::take(&mut paragraphs)
            };
            let intro = intro
                .into_iter()
                .filter(|paragraph| !paragraph.is_empty())
                .collect();
            paragraphs = vec![String::new()];
            tables.push(Table {
                title: title(&header),
                header,
                intro,
                entries: Vec::new(),
            });
        } else if let Some((key, value)) = assignment(bare) {
            let Some(table) = tables.last_mut() else { continue };
            let (value, behind) = cut_comment(value);
            let mut value = value.to_owned();
            let before = std::mem::take(&mut paragraphs).concat();
            paragraphs = vec![String::new()];
            if value == "[" {
                for line in lines.by_ref() {
                    value.push('\n');
                    value.push_str(line.strip_prefix('#').unwrap_or(line));
                    if line == "]" {
                        break;
                    }
                }
            }
            let comment = [before.as_str(), behind].join(" ").trim().to_owned();
            table.entries.push(Entry {
                key: key.to_owned(),
                value,
                comment,
            });
        } else if let Some(words) = line.strip_prefix('#') {
            let paragraph = paragraphs.last_mut().expect("there is always one under way");
            paragraph.push_str(
                words
                    .strip_prefix(' ')
                    .filter(|_| paragraph.is_empty())
                    .unwrap_or(words),
            );
        } else if line.is_empty() {
            paragraphs.push(String::new());
        }
    }
    tables
}

/// `[issuers.corp]` is one of many, under a name of the operator's choice.
fn title(header: &str) -> String {
    for kind in ["issuers", "upstreams", "providers"] {
        if header.starts_with(&format!("[{kind}.")) {
            return format!("[{kind}.NAME]");
        }
    }
    header.to_owned()
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(" = ")?;
    key.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        .then_some((key, value))
}

/// The value in front of a `#` that is in no quotes, and the comment behind it.
fn cut_comment(line: &str) -> (&str, &str) {
    let mut quoted = false;
    for (at, letter) in line.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '#' if !quoted => return (line[..at].trim_end(), line[at + 1..].trim()),
            _ => {}
        }
    }
    (line, "")
}
