//! Where everything of the SVG drawing stands, in pixels.

use std::collections::BTreeMap;

use super::layout::{Layout, Link, Net, What, layout};
use super::place::centres;
use super::{Graph, Node};
use crate::text::width;

// A monospace character is 0.6 em wide in every common font (0.602 in DejaVu Sans Mono), so boxes fit their text.
const ADVANCE: f64 = 0.605;
const NAME_SIZE: f64 = 14.0;
const SMALL_SIZE: f64 = 11.0;
const PORT_SIZE: f64 = 10.0;
const PADDING: f64 = 12.0;
const PORT_GAP: f64 = 12.0;
const NARROWEST: f64 = 96.0;
const ROW_GAP: f64 = 46.0;
const BOX_GAP: f64 = 26.0;
const LINE_GAP: f64 = 16.0;
const MARGIN: f64 = 16.0;

/// Height of the row of port names at the top of a box, and of output names at its bottom.
pub(super) const PORT_ROW: f64 = 17.0;
/// Height of the name and of what stands below it.
pub(super) const TEXT_ROWS: f64 = 44.0;

/// A box with its texts.
pub(super) struct Frame {
    pub(super) node: usize,
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// Port names and their centres, along the top.
    pub(super) ports: Vec<(f64, String)>,
    /// Names of outputs other than the default one and their centres, along the bottom.
    pub(super) outputs: Vec<(f64, String)>,
}

/// A curve from one place to one below it, then straight down.
pub(super) struct Stroke {
    pub(super) from: (f64, f64),
    pub(super) to: (f64, f64),
    /// Where the straight part ends.
    pub(super) down_to: f64,
    /// Whether it ends in an arrow.
    pub(super) arrow: bool,
}

/// All that is drawn.
pub(super) struct Picture {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) frames: Vec<Frame>,
    pub(super) nets: Vec<(Net, Vec<Stroke>)>,
}

/// The two lines in a box.
pub(super) fn lines(node: &Node) -> [String; 2] {
    let state = node.state.map(|s| format!(" · {} {}", s.glyph(), s.word())).unwrap_or_default();
    [node.title(), format!("{}{state}", node.uses)]
}

/// Places a graph.
pub(super) fn picture(graph: &Graph) -> Picture {
    let nets = nets_by_output(graph);
    let plan = layout(graph, &nets);
    let geometry = Geometry::of(graph, &nets, &plan);
    let frames = (0..plan.slots.len()).filter_map(|slot| geometry.frame(slot)).collect();
    let strokes: Vec<Vec<Stroke>> = geometry.strokes();
    let right = (0..plan.slots.len()).map(|s| geometry.centre[s] + geometry.width[s] / 2.0).fold(0.0, f64::max);
    let bottom = geometry.rows.last().map_or(MARGIN, |(top, height)| top + height);
    Picture {
        width: (right + MARGIN).ceil(),
        height: (bottom + MARGIN).ceil(),
        frames,
        nets: nets.into_iter().zip(strokes).collect(),
    }
}

/// One net for each output that is used.
fn nets_by_output(graph: &Graph) -> Vec<Net> {
    let mut nets: BTreeMap<(usize, Option<&str>), Vec<usize>> = BTreeMap::new();
    for (e, edge) in graph.edges.iter().enumerate() {
        nets.entry((edge.from, edge.output.as_deref())).or_default().push(e);
    }
    nets.into_iter().map(|((from, _), edges)| Net { from, edges }).collect()
}

struct Geometry<'a> {
    graph: &'a Graph,
    nets: &'a [Net],
    plan: &'a Layout,
    /// Links that end in each slot.
    entering: Vec<Vec<Link>>,
    /// Nets that leave each node.
    leaving: Vec<Vec<usize>>,
    centre: Vec<f64>,
    width: Vec<f64>,
    /// Top and height of every row.
    rows: Vec<(f64, f64)>,
    /// Where each edge enters its box.
    entry: Vec<f64>,
    /// Where each net leaves its box.
    exit: Vec<f64>,
}

impl<'a> Geometry<'a> {
    fn of(graph: &'a Graph, nets: &'a [Net], plan: &'a Layout) -> Self {
        let mut entering = vec![Vec::new(); plan.slots.len()];
        for link in &plan.links {
            entering[link.lower].push(*link);
        }
        let mut leaving = vec![Vec::new(); graph.nodes.len()];
        for (n, net) in nets.iter().enumerate() {
            leaving[net.from].push(n);
        }
        let (edges, exits) = (graph.edges.len(), nets.len());
        let mut it = Self {
            graph,
            nets,
            plan,
            entering,
            leaving,
            centre: Vec::new(),
            width: Vec::new(),
            rows: Vec::new(),
            entry: vec![0.0; edges],
            exit: vec![0.0; exits],
        };
        it.width = (0..plan.slots.len()).map(|slot| it.slot_width(slot)).collect();
        let bend = |slot: usize| plan.slots[slot].what == What::Bend;
        let gap = |a: usize, b: usize| {
            if bend(a) || bend(b) { LINE_GAP } else { BOX_GAP }
        };
        it.centre = centres(plan, |s| it.width[s], gap);
        it.centre.iter_mut().for_each(|x| *x += MARGIN);
        let mut top = MARGIN;
        for row in &plan.rows {
            let height = row
                .iter()
                .filter_map(|&slot| it.node(slot).map(|node| it.height(slot, node)))
                .fold(TEXT_ROWS, f64::max);
            it.rows.push((top, height));
            top += height + ROW_GAP;
        }
        // Entries follow the order of the exits they come from, so all exits are placed first.
        for slot in 0..plan.slots.len() {
            it.place_exits(slot);
        }
        for slot in 0..plan.slots.len() {
            it.place_entries(slot);
        }
        it
    }

    fn node(&self, slot: usize) -> Option<usize> {
        if let What::Node(node) = self.plan.slots[slot].what { Some(node) } else { None }
    }

    fn output(&self, net: usize) -> &'a str {
        self.graph.edges[self.nets[net].edges[0]].output.as_deref().unwrap_or("")
    }

    fn port(&self, edge: usize) -> &'a str {
        &self.graph.edges[edge].port
    }

    fn slot_width(&self, slot: usize) -> f64 {
        let Some(node) = self.node(slot) else {
            return 1.0;
        };
        let ports: f64 = self.entering[slot].iter().filter_map(|l| l.edge).map(|e| port_width(self.port(e))).sum();
        let outputs: f64 = self.leaving[node].iter().map(|&n| port_width(self.output(n))).sum();
        let [name, below] = lines(&self.graph.nodes[node]);
        let text = text_width(&name, NAME_SIZE).max(text_width(&below, SMALL_SIZE)) + 2.0 * PADDING;
        text.max(ports + PADDING).max(outputs + PADDING).max(NARROWEST)
    }

    fn height(&self, slot: usize, node: usize) -> f64 {
        let ports = if self.entering[slot].is_empty() { 0.0 } else { PORT_ROW };
        let outputs = if self.leaving[node].iter().all(|&n| self.output(n).is_empty()) { 0.0 } else { PORT_ROW };
        TEXT_ROWS + ports + outputs
    }

    /// Outputs along the bottom, in the order of where their lines go.
    fn place_exits(&mut self, slot: usize) {
        let Some(node) = self.node(slot) else { return };
        let aim = |n: usize| {
            let to = self.nets[n].edges.iter().map(|&e| self.centre[self.graph.edges[e].to]);
            to.sum::<f64>() / float(self.nets[n].edges.len())
        };
        let mut order: Vec<(f64, usize)> = self.leaving[node].iter().map(|&n| (aim(n), n)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let widths: Vec<f64> = order.iter().map(|&(_, n)| port_width(self.output(n))).collect();
        for (x, (_, n)) in self.along(slot, &widths).into_iter().zip(order) {
            self.exit[n] = x;
        }
    }

    /// Ports along the top, in the order of where their lines come from.
    fn place_entries(&mut self, slot: usize) {
        let mut order: Vec<(f64, usize)> =
            self.entering[slot].iter().filter_map(|l| Some((self.leaves(l.upper, l.net), l.edge?))).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let widths: Vec<f64> = order.iter().map(|&(_, e)| port_width(self.port(e))).collect();
        for (x, (_, e)) in self.along(slot, &widths).into_iter().zip(order) {
            self.entry[e] = x;
        }
    }

    /// Centres of labels of the given widths, spread evenly over a box.
    fn along(&self, slot: usize, widths: &[f64]) -> Vec<f64> {
        let spare = (self.width[slot] - widths.iter().sum::<f64>()) / float(widths.len().max(1));
        let mut right = self.centre[slot] - self.width[slot] / 2.0;
        let mut centres = Vec::with_capacity(widths.len());
        for width in widths {
            right += width + spare;
            centres.push(right - (width + spare) / 2.0);
        }
        centres
    }

    fn leaves(&self, slot: usize, net: usize) -> f64 {
        if self.plan.slots[slot].what == What::Bend { self.centre[slot] } else { self.exit[net] }
    }

    /// How far a box stands inside its row, in which it is centred.
    fn inset(&self, slot: usize) -> f64 {
        self.node(slot).map_or(0.0, |node| (self.rows[self.plan.slots[slot].rank].1 - self.height(slot, node)) / 2.0)
    }

    fn strokes(&self) -> Vec<Vec<Stroke>> {
        let mut strokes: Vec<Vec<Stroke>> = (0..self.nets.len()).map(|_| Vec::new()).collect();
        for link in &self.plan.links {
            let (above, height_above) = self.rows[self.plan.slots[link.upper].rank];
            let (below, height_below) = self.rows[self.plan.slots[link.lower].rank];
            let from = (self.leaves(link.upper, link.net), above + height_above - self.inset(link.upper));
            let (x, down_to) = match link.edge {
                Some(edge) => (self.entry[edge], below + self.inset(link.lower)),
                None => (self.centre[link.lower], below + height_below),
            };
            strokes[link.net].push(Stroke { from, to: (x, below), down_to, arrow: link.edge.is_some() });
        }
        strokes
    }

    fn frame(&self, slot: usize) -> Option<Frame> {
        let node = self.node(slot)?;
        let edges = self.entering[slot].iter().filter_map(|l| l.edge);
        let outputs = self.leaving[node].iter().filter(|&&n| !self.output(n).is_empty());
        Some(Frame {
            node,
            left: self.centre[slot] - self.width[slot] / 2.0,
            top: self.rows[self.plan.slots[slot].rank].0 + self.inset(slot),
            width: self.width[slot],
            height: self.height(slot, node),
            ports: edges.map(|e| (self.entry[e], self.port(e).to_string())).collect(),
            outputs: outputs.map(|&n| (self.exit[n], self.output(n).to_string())).collect(),
        })
    }
}

fn port_width(name: &str) -> f64 {
    text_width(name, PORT_SIZE) + PORT_GAP
}

fn text_width(text: &str, size: f64) -> f64 {
    float(width(text)) * size * ADVANCE
}

#[expect(clippy::cast_precision_loss, reason = "columns of text and numbers of ports")]
fn float(n: usize) -> f64 {
    n as f64
}
