//! A report as one HTML file: nothing in it comes from elsewhere, nothing in it runs.

use std::path::{Component, Path, PathBuf};

use super::Report;
use super::document::{Block, Data, Figure, Section, Sheet};
use super::plot;
use crate::dag::Graph;
use crate::number::plural;
use crate::table::{Cell, TextTable};
use crate::text::Terminal;
use crate::xml::{data_address, visible};

const STYLE: &str = include_str!("style.css");
/// Files listed below a table or picture.
const MOST_FILES: usize = 50;
/// Pictures wider than this have a row to themselves, and scroll where the page is narrower.
const WIDE: f64 = 361.0;

impl Report {
    /// The report as HTML. With the absolute folder that the file will lie in, Parquet files are linked as well as named.
    pub fn to_html(&self, folder: Option<&Path>) -> String {
        let mut page = Html { store: &self.store, folder, out: String::new(), figures: 0 };
        let title = visible(&self.title);
        // Should a text ever pass for markup, the policy keeps it from running or loading anything.
        page.out.push_str(&format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}: report</title>\n\
             <link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#main\">To the content</a>\n<header>\n<h1>{title}</h1>\n</header>\n",
            plot::STYLE
        ));
        page.contents(&self.sections);
        page.out.push_str("<main id=\"main\">\n");
        for (i, section) in self.sections.iter().enumerate() {
            page.section(section, &format!("s{}", i + 1), 2);
        }
        page.out.push_str("</main>\n</body>\n</html>\n");
        page.out
    }
}

struct Html<'a> {
    store: &'a Path,
    folder: Option<&'a Path>,
    out: String,
    /// Figures so far, from which they have their ids.
    figures: usize,
}

impl Html<'_> {
    fn contents(&mut self, sections: &[Section]) {
        let entry = |id: &str, heading: &str| format!("<li><a href=\"#{id}\">{}</a>", visible(heading));
        self.out.push_str("<nav aria-label=\"Contents\">\n<ul>\n");
        for (i, section) in sections.iter().enumerate() {
            let id = format!("s{}", i + 1);
            self.out.push_str(&entry(&id, &section.heading));
            if !section.sections.is_empty() {
                let inner = section.sections.iter().enumerate();
                let inner = inner.map(|(j, inner)| entry(&format!("{id}-{}", j + 1), &inner.heading) + "</li>");
                self.out.push_str(&format!("\n<ul>{}</ul>", inner.collect::<String>()));
            }
            self.out.push_str("</li>\n");
        }
        self.out.push_str("</ul>\n</nav>\n");
    }

    fn section(&mut self, section: &Section, id: &str, level: usize) {
        let heading = visible(&section.heading);
        self.out.push_str(&format!("<section aria-labelledby=\"{id}\">\n<h{level} id=\"{id}\">{heading}</h{level}>\n"));
        for block in &section.blocks {
            self.block(block);
        }
        for (i, inner) in section.sections.iter().enumerate() {
            self.section(inner, &format!("{id}-{}", i + 1), level + 1);
        }
        self.out.push_str("</section>\n");
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Text(text) => self.out.push_str(&format!("<p>{}</p>\n", visible(text))),
            Block::Facts(facts) => {
                let fact = |(name, cell): &(String, Cell)| {
                    format!("<dt>{}</dt><dd>{}</dd>\n", visible(name), visible(&cell.shown()))
                };
                self.out.push_str(&format!("<dl>\n{}</dl>\n", facts.iter().map(fact).collect::<String>()));
            }
            Block::Sheet(sheet) => self.sheet(sheet),
            Block::Figures(figures) => {
                self.out.push_str("<div class=\"figures\">\n");
                for figure in figures {
                    self.figure(figure);
                }
                self.out.push_str("</div>\n");
            }
            Block::Folded(summary, blocks) => {
                self.out.push_str(&format!("<details>\n<summary>{}</summary>\n", visible(summary)));
                for block in blocks {
                    self.block(block);
                }
                self.out.push_str("</details>\n");
            }
            Block::Graph(graph) => self.graph(graph),
        }
    }

    fn sheet(&mut self, sheet: &Sheet) {
        self.scrolled(&format!("Table: {}", sheet.title), &sheet.shown.to_html(&sheet.title));
        self.data(&sheet.title, &sheet.data, None);
    }

    /// What may be wider than the page; the keyboard scrolls it.
    fn scrolled(&mut self, label: &str, content: &str) {
        let label = visible(label);
        self.out.push_str(&format!(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{label}\">\n{content}</div>\n"
        ));
    }

    fn figure(&mut self, figure: &Figure) {
        self.figures += 1;
        let (id, picture) = (format!("f{}", self.figures), &figure.picture);
        let wide = picture.width > WIDE;
        let class = if wide { " class=\"wide\"" } else { "" };
        self.out.push_str(&format!("<figure{class}>\n<figcaption>{}</figcaption>\n", visible(&picture.title)));
        let svg = picture.inline(&id);
        if wide {
            self.scrolled(&format!("Picture: {}", picture.title), &svg);
        } else {
            self.out.push_str(&svg);
        }
        self.out.push_str(&format!("<p class=\"says\">{}</p>\n", visible(&picture.says)));
        self.data(&picture.title, &figure.data, Some(&picture.file()));
        self.out.push_str("</figure>\n");
    }

    fn graph(&mut self, graph: &Graph) {
        let svg = graph.to_svg();
        self.out.push_str("<figure class=\"wide\">\n<figcaption>The pipeline</figcaption>\n");
        self.scrolled("Picture: the pipeline", &svg);
        let mut edges = TextTable::new(["from", "output", "to", "port"]);
        for edge in graph.edges() {
            let name = |node: usize| Cell::text(&graph.nodes()[node].name);
            let output = Cell::or_empty(edge.output.as_ref(), Cell::text);
            edges.push([name(edge.from), output, name(edge.to), Cell::text(&edge.port)]);
        }
        self.data("Pipeline", &Data::own(edges), Some(&svg));
        self.out.push_str("<details>\n<summary>The pipeline as text</summary>\n");
        let list = format!("<pre>{}</pre>\n", escape_lines(&graph.to_list(Terminal::PLAIN)));
        self.scrolled("The pipeline as text", &list);
        self.out.push_str("</details>\n</figure>\n");
    }

    /// Links to the data and to the picture, and where the data come from.
    fn data(&mut self, title: &str, data: &Data, svg: Option<&str>) {
        let (name, of) = (slug(title), format!("<span class=\"vh\"> of {}</span>", visible(title)));
        let link = |kind: &str, address: String, extension: &str| {
            format!("<a download=\"{name}.{extension}\" href=\"{address}\">{kind}{of}</a>\n")
        };
        self.out.push_str("<div class=\"data\">");
        self.out.push_str(&link("CSV", data_address("text/csv", &data.rows.to_csv()), "csv"));
        if let Some(svg) = svg {
            self.out.push_str(&link("SVG", data_address("image/svg+xml", svg), "svg"));
        }
        match data.files.as_slice() {
            [] => {}
            files => {
                let items = files.iter().take(MOST_FILES).map(|file| format!("<li>{}</li>", self.file(file)));
                let mut items: String = items.collect();
                if files.len() > MOST_FILES {
                    items.push_str(&format!("<li>and {} more</li>", files.len() - MOST_FILES));
                }
                let count = plural(files.len() as u64, "file");
                self.out
                    .push_str(&format!("<details><summary>Parquet, {count}{of}</summary><ul>{items}</ul></details>"));
            }
        }
        if svg.is_some() {
            self.out.push_str(&format!("<details>\n<summary>Table{of}</summary>\n"));
            self.scrolled(&format!("Data of {title}"), &data.head().to_html(title));
            self.out.push_str("</details>");
        }
        self.out.push_str("</div>\n");
        for note in data.rows.notes() {
            self.out.push_str(&format!("<p class=\"note\">CSV: {}</p>\n", visible(note)));
        }
    }

    /// The path of a file in the store, linked where it is known from where.
    fn file(&self, file: &Path) -> String {
        let shown = file.strip_prefix(self.store).unwrap_or(file).display().to_string();
        let code = format!("<code>{}</code>", visible(&shown));
        match self.folder.and_then(|folder| relative(folder, file)) {
            Some(address) => format!("<a href=\"{address}\">{code}</a>"),
            None => code,
        }
    }
}

/// Lines that are lines on the page too.
fn escape_lines(text: &str) -> String {
    text.lines().map(|line| visible(line) + "\n").collect()
}

/// The address of an absolute path as seen from an absolute folder.
fn relative(folder: &Path, file: &Path) -> Option<String> {
    let (from, to): (Vec<Component<'_>>, Vec<Component<'_>>) =
        (folder.components().collect(), file.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if shared == 0 {
        return None;
    }
    let up = std::iter::repeat_n(Component::ParentDir, from.len() - shared);
    let path: PathBuf = [Component::CurDir].into_iter().chain(up).chain(to[shared..].iter().copied()).collect();
    let mut out = String::new();
    for byte in path.to_str()?.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(out)
}

/// A name for a file: `ce_score-against-l0`.
fn slug(title: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '-' };
    let words: String = title.chars().map(plain).collect();
    let words: Vec<&str> = words.split('-').filter(|word| !word.is_empty()).collect();
    words.join("-").chars().take(80).collect::<String>().trim_matches(['.', '-']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_from_the_report() {
        let at = |folder: &str, file: &str| relative(Path::new(folder), Path::new(file));
        assert_eq!(at("/a/b", "/a/.mediant/x.parquet").as_deref(), Some("./../.mediant/x.parquet"));
        assert_eq!(at("/a", "/a/o b/<x>.parquet").as_deref(), Some("./o%20b/%3Cx%3E.parquet"));
    }

    #[test]
    fn downloads_have_plain_names() {
        assert_eq!(slug("Heat map head blocks.*.hook_z, k=4"), "Heat-map-head-blocks.-.hook_z-k-4");
        assert_eq!(slug("../\"<x>"), "x");
    }
}
