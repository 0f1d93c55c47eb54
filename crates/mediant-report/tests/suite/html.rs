//! Reads a report's HTML far enough to check it.

use std::collections::{BTreeMap, BTreeSet};

/// What a page has.
pub(crate) struct Page {
    /// How many elements of each name.
    pub(crate) elements: BTreeMap<String, usize>,
    /// The addresses of links that lead out of the page: data, and files.
    pub(crate) links: Vec<String>,
    /// The names that downloads have.
    pub(crate) downloads: Vec<String>,
    /// The texts of headings.
    pub(crate) headings: Vec<String>,
}

impl Page {
    pub(crate) fn count(&self, element: &str) -> usize {
        self.elements.get(element).copied().unwrap_or(0)
    }

    /// Downloads of a kind, such as `.csv`.
    pub(crate) fn downloads(&self, extension: &str) -> usize {
        self.downloads.iter().filter(|name| name.ends_with(extension)).count()
    }
}

/// Reads a page. Panics unless elements are closed in order, ids are unique, links lead to the page itself, to data in it or to files
/// near it, pictures have titles, tables have headers with scopes, headings leave no level out, and nothing runs or comes from elsewhere.
pub(crate) fn read(html: &str) -> Page {
    assert!(html.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
    assert!(html.contains("default-src 'none'"));
    let mut page = Page { elements: BTreeMap::new(), links: Vec::new(), downloads: Vec::new(), headings: Vec::new() };
    let (mut open, mut ids, mut inner) = (Vec::new(), BTreeSet::new(), Vec::new());
    let mut level = 0;
    let mut rest = &html["<!DOCTYPE html>".len()..];
    while let Some((_, tail)) = rest.split_once('<') {
        let (tag, after) = tail.split_once('>').expect("a tag that ends");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "before {}", &after[..after.len().min(200)]);
            continue;
        }
        let closed = tag.ends_with('/');
        let (name, attributes) = attributes(tag.trim_end_matches('/'));
        *page.elements.entry(name.clone()).or_default() += 1;
        assert!(!["script", "iframe", "object", "embed", "img", "form", "base"].contains(&name.as_str()), "<{tag}>");
        for (attribute, value) in &attributes {
            assert!(
                !attribute.starts_with("on") && !["src", "srcset", "style", "action"].contains(&attribute.as_str()),
                "<{tag}>"
            );
            match attribute.as_str() {
                "id" => assert!(ids.insert(value.clone()), "two elements have the id {value}"),
                "download" => page.downloads.push(value.clone()),
                "href" if value.starts_with('#') => inner.push(value[1..].to_owned()),
                "href" => {
                    assert!(value.starts_with("data:") || value.starts_with("./"), "a link to {value}");
                    page.links.push(value.clone());
                }
                "aria-labelledby" => inner.extend(value.split(' ').map(str::to_owned)),
                _ => {}
            }
        }
        match name.as_str() {
            "svg" => assert!(after.trim_start().starts_with("<title"), "a picture without a title"),
            "table" => assert!(after.trim_start().starts_with("<caption>"), "a table without a caption"),
            "th" => assert!(attributes.contains_key("scope"), "<{tag}>"),
            "h1" | "h2" | "h3" | "h4" => {
                let next = name[1..].parse::<usize>().expect("a level");
                assert!(next <= level + 1, "<{tag}> after level {level}");
                level = next;
                page.headings.push(after.split('<').next().unwrap_or_default().to_owned());
            }
            _ => {}
        }
        if name == "style" {
            let (style, _) = after.split_once('<').expect("the end of a style");
            assert!(!style.contains("url(") && !style.contains("@import"));
        }
        if !closed && !["meta", "link"].contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
    for target in inner {
        assert!(ids.contains(&target), "nothing has the id {target}");
    }
    // Each table has its rows as a file, each picture itself and a table.
    let figures = page.count("figure");
    assert_eq!(page.downloads(".csv"), page.count("table"));
    assert!(page.count("table") >= figures);
    assert_eq!(page.downloads(".svg"), figures);
    assert_eq!(page.count("svg"), figures);
    page
}

/// The name of an element and its attributes, all of them in double quotes.
fn attributes(tag: &str) -> (String, BTreeMap<String, String>) {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    let mut found = BTreeMap::new();
    while let Some((attribute, tail)) = rest.split_once("=\"") {
        let (value, after) = tail.split_once('"').expect("a quoted attribute");
        found.insert(attribute.trim().to_owned(), value.to_owned());
        rest = after;
    }
    (name.to_owned(), found)
}
