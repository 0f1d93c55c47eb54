//! The pipeline in box-drawing characters.

use std::collections::BTreeMap;

use super::layout::{Layout, Net, What, layout};
use super::place::centres;
use super::route::{Piece, entries, tracks};
use super::{Graph, Node, State};
use crate::text::{Paint, Terminal, cut, one_line, width};

/// Beyond this many stages boxes no longer help.
const MOST_BOXES: usize = 40;
/// The width assumed where there is no terminal.
const PIPED_WIDTH: usize = 120;
const BOX_HEIGHT: usize = 4;
const LONGEST_LABEL: usize = 28;

impl Graph {
    /// Boxes and arrows from top to bottom, each stage with its name, number of instances, what it uses and its state; lines
    /// that cross without meeting leave a gap in the horizontal one. Pipelines too wide or too large for that become an
    /// indented list.
    pub fn to_terminal(&self, terminal: Terminal) -> String {
        let room = terminal.width.unwrap_or(PIPED_WIDTH);
        let boxes = if self.nodes.len() <= MOST_BOXES { self.boxes(room) } else { None };
        let mut out = boxes.map_or_else(|| self.to_list(terminal), |canvas| canvas.text(terminal));
        let states: Vec<State> = self.nodes.iter().filter_map(|n| n.state).collect();
        let mut known: Vec<State> = Vec::new();
        for state in states {
            if !known.contains(&state) {
                known.push(state);
            }
        }
        if !known.is_empty() {
            let legend: Vec<String> = known
                .iter()
                .map(|s| format!("{} {}", terminal.paint(paint(*s), &s.glyph().to_string()), s.word()))
                .collect();
            out.push_str(&format!("\n{}\n", legend.join("   ")));
        }
        out
    }

    /// The drawing, unless it needs more columns than there are or lines that would lie on each other.
    fn boxes(&self, room: usize) -> Option<Canvas> {
        let nets = self.nets_by_source();
        let plan = layout(self, &nets);
        let columns = Columns::of(self, &plan);
        let total = (0..plan.slots.len()).map(|s| columns.left[s] + columns.width[s]).max().unwrap_or(0);
        if total > room {
            return None;
        }
        let mut canvas = Canvas::new(total);
        for (r, row) in plan.rows.iter().enumerate() {
            let top = canvas.height();
            canvas.grow(BOX_HEIGHT);
            for &slot in row {
                match plan.slots[slot].what {
                    What::Node(node) => {
                        canvas.draw_box(top, columns.left[slot], columns.width[slot], &self.nodes[node]);
                    }
                    What::Bend => {
                        let net = plan.links.iter().find(|l| l.lower == slot).map_or(0, |l| l.net);
                        canvas.vertical(columns.left[slot], top..top + BOX_HEIGHT, net);
                    }
                }
            }
            if r + 1 < plan.rows.len() {
                canvas.draw_gap(&plan, &columns, r)?;
            }
        }
        Some(canvas)
    }

    fn nets_by_source(&self) -> Vec<Net> {
        let mut nets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (e, edge) in self.edges.iter().enumerate() {
            nets.entry(edge.from).or_default().push(e);
        }
        nets.into_iter().map(|(from, edges)| Net { from, edges }).collect()
    }
}

/// Left edges and widths of all slots, in characters; widths are odd, so that every slot has a middle column.
struct Columns {
    left: Vec<usize>,
    width: Vec<usize>,
}

impl Columns {
    fn of(graph: &Graph, plan: &Layout) -> Self {
        let entering = |slot: usize| plan.links.iter().filter(|l| l.lower == slot).count();
        let widths: Vec<usize> = plan
            .slots
            .iter()
            .enumerate()
            .map(|(s, slot)| match slot.what {
                What::Bend => 1,
                What::Node(node) => {
                    let label = label(&graph.nodes[node]).iter().map(|line| width(line)).max().unwrap_or(0);
                    (label + 4).max(2 * entering(s) + 3) | 1
                }
            })
            .collect();
        let bend = |slot: usize| plan.slots[slot].what == What::Bend;
        let gap = |a: usize, b: usize| if bend(a) && bend(b) { 2 } else { 3 };
        let centre = centres(plan, |s| float(widths[s]), |a, b| float(gap(a, b)));
        let mut left = vec![0; widths.len()];
        for row in &plan.rows {
            let mut free = 0;
            for (i, &slot) in row.iter().enumerate() {
                let wanted = integer(centre[slot] - float(widths[slot]) / 2.0);
                left[slot] = if i == 0 { wanted } else { wanted.max(free + gap(row[i - 1], slot)) };
                free = left[slot] + widths[slot];
            }
        }
        Self { left, width: widths }
    }

    fn middle(&self, slot: usize) -> usize {
        self.left[slot] + self.width[slot] / 2
    }
}

/// The two lines in a box.
fn label(node: &Node) -> [String; 2] {
    let state = node.state.map(|s| format!(" {}", s.glyph())).unwrap_or_default();
    [cut(&one_line(&node.title()), LONGEST_LABEL), format!("{}{state}", cut(&one_line(&node.uses), LONGEST_LABEL))]
}

fn paint(state: State) -> Paint {
    match state {
        State::Cached | State::Done => Paint::Green,
        State::WillRun => Paint::Yellow,
        State::Depends | State::Skipped => Paint::Dim,
        State::Running => Paint::Cyan,
        State::Failed => Paint::Red,
    }
}

const UP: u8 = 1;
const DOWN: u8 = 2;
const LEFT: u8 = 4;
const RIGHT: u8 = 8;

#[derive(Clone, Copy)]
enum Mark {
    Blank,
    Char(char, Option<Paint>),
    /// The second half of a character two columns wide.
    Covered,
    Line {
        sides: u8,
        net: usize,
    },
}

struct Canvas {
    columns: usize,
    rows: Vec<Vec<Mark>>,
}

impl Canvas {
    fn new(columns: usize) -> Self {
        Self { columns, rows: Vec::new() }
    }

    fn height(&self) -> usize {
        self.rows.len()
    }

    fn grow(&mut self, rows: usize) {
        self.rows.resize(self.rows.len() + rows, vec![Mark::Blank; self.columns]);
    }

    fn draw_box(&mut self, top: usize, left: usize, width: usize, node: &Node) {
        let right = left + width - 1;
        for (row, corners) in [(top, ['┌', '┐']), (top + BOX_HEIGHT - 1, ['└', '┘'])] {
            self.write(row, left, &format!("{}{}{}", corners[0], "─".repeat(width - 2), corners[1]), None);
        }
        for (i, line) in label(node).iter().enumerate() {
            let row = top + 1 + i;
            self.write(row, left, "│", None);
            self.write(row, left + 2, line, if i == 0 { Some(Paint::Bold) } else { node.state.map(paint) });
            self.write(row, right, "│", None);
        }
    }

    fn write(&mut self, row: usize, mut column: usize, text: &str, paint: Option<Paint>) {
        for c in text.chars() {
            let columns = width(c.encode_utf8(&mut [0; 4]));
            if columns == 0 {
                continue;
            }
            self.rows[row][column] = Mark::Char(c, paint);
            if columns == 2 {
                self.rows[row][column + 1] = Mark::Covered;
            }
            column += columns;
        }
    }

    /// The lines between row `r` and the next; nothing if they cannot be kept apart.
    fn draw_gap(&mut self, plan: &Layout, columns: &Columns, r: usize) -> Option<()> {
        let links: Vec<usize> = (0..plan.links.len()).filter(|&l| plan.slots[plan.links[l].upper].rank == r).collect();
        let leaves: Vec<(usize, usize)> =
            links.iter().map(|&l| (columns.middle(plan.links[l].upper), plan.links[l].net)).collect();
        let mut pieces: BTreeMap<usize, Piece> = BTreeMap::new();
        let mut arrows = Vec::new();
        for &slot in &plan.rows[r + 1] {
            let mut entering: Vec<(usize, usize)> = links
                .iter()
                .map(|&l| plan.links[l])
                .filter(|link| link.lower == slot)
                .map(|link| (columns.middle(link.upper), link.net))
                .collect();
            entering.sort_unstable();
            let sources: Vec<usize> = entering.iter().map(|(from, _)| *from).collect();
            let ends = match plan.slots[slot].what {
                What::Bend => vec![columns.left[slot]; sources.len()],
                What::Node(_) => {
                    let (low, high) = (columns.left[slot] + 1, columns.left[slot] + columns.width[slot] - 2);
                    let found = entries(&sources, low, high, |c| leaves.iter().any(|&(x, _)| x == c));
                    arrows.extend_from_slice(&found);
                    found
                }
            };
            for ((from, net), to) in entering.into_iter().zip(ends) {
                pieces.entry(net).or_insert_with(|| Piece { from, to: Vec::new() }).to.push(to);
            }
        }
        let nets: Vec<usize> = pieces.keys().copied().collect();
        let pieces: Vec<Piece> = pieces.into_values().collect();
        let (track, count) = tracks(&pieces)?;
        let top = self.height();
        self.grow(count + 1);
        let bottom = self.height();
        for ((piece, track), &net) in pieces.iter().zip(&track).zip(&nets) {
            if let Some(track) = track {
                self.horizontal(piece.span(), top + track, net);
            }
        }
        for ((piece, track), &net) in pieces.iter().zip(&track).zip(&nets) {
            let turn = track.map_or(bottom, |t| top + t);
            self.vertical(piece.from, top..turn, net);
            if let Mark::Char('─', _) = self.rows[top - 1][piece.from] {
                self.rows[top - 1][piece.from] = Mark::Char('┬', None);
            }
            if track.is_some() {
                self.add(turn, piece.from, UP, net);
                for &to in &piece.to {
                    self.add(turn, to, DOWN, net);
                    self.vertical(to, turn + 1..bottom, net);
                }
            }
        }
        for column in arrows {
            self.rows[bottom - 1][column] = Mark::Char('▼', None);
        }
        Some(())
    }

    fn horizontal(&mut self, (low, high): (usize, usize), row: usize, net: usize) {
        for column in low..=high {
            let sides = if column > low { LEFT } else { 0 } | if column < high { RIGHT } else { 0 };
            self.add(row, column, sides, net);
        }
    }

    /// Goes over the horizontal lines of other nets, which so show a gap.
    fn vertical(&mut self, column: usize, rows: std::ops::Range<usize>, net: usize) {
        for row in rows {
            self.add(row, column, UP | DOWN, net);
        }
    }

    fn add(&mut self, row: usize, column: usize, sides: u8, net: usize) {
        let before = match self.rows[row][column] {
            Mark::Line { sides, net: other } if other == net => sides,
            _ => 0,
        };
        self.rows[row][column] = Mark::Line { sides: before | sides, net };
    }

    fn text(&self, terminal: Terminal) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            let mut at = 0;
            while at < row.len() {
                match row[at] {
                    Mark::Blank => line.push(' '),
                    Mark::Covered => {}
                    Mark::Line { sides, .. } => line.push(stroke(sides)),
                    Mark::Char(c, None) => line.push(c),
                    Mark::Char(_, Some(paint)) => {
                        let run: String = row[at..]
                            .iter()
                            .map_while(|m| {
                                if let Mark::Char(c, Some(p)) = m
                                    && *p == paint
                                {
                                    Some(*c)
                                } else {
                                    None
                                }
                            })
                            .collect();
                        at += run.chars().count() - 1;
                        line.push_str(&terminal.paint(paint, &run));
                    }
                }
                at += 1;
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

fn stroke(sides: u8) -> char {
    const CHARS: [char; 16] = [' ', '│', '│', '│', '─', '╯', '╮', '┤', '─', '╰', '╭', '├', '─', '┴', '┬', '┼'];
    CHARS[usize::from(sides & 15)]
}

#[expect(clippy::cast_precision_loss, reason = "columns of a terminal")]
fn float(n: usize) -> f64 {
    n as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "columns of a terminal, never negative")]
fn integer(x: f64) -> usize {
    x.round().max(0.0) as usize
}
