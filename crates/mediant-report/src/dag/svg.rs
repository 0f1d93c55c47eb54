//! The pipeline as SVG: one file without outside references, readable on light and dark pages.

use super::Graph;
use super::layout::Net;
use super::picture::{Frame, PORT_ROW, Stroke, lines, picture};
use crate::number::plural;
use crate::xml::{px, visible};

const ARROW: f64 = 6.0;

impl Graph {
    /// A drawing from top to bottom. Every box shows the stage's name, number of instances, what it uses and its state; input
    /// ports stand at its top where the arrows end, outputs other than the default one at its bottom. A `<title>` says in
    /// words what the drawing and each box show. Styles are classes below `svg.mediant-dag`, so that it can stand in a page.
    pub fn to_svg(&self) -> String {
        let picture = picture(self);
        let (w, h) = (px(picture.width), px(picture.height));
        let title = visible(&format!("Pipeline {}: {}", self.name, plural(self.nodes.len() as u64, "stage")));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"mediant-dag\" role=\"img\" width=\"{w}\" height=\"{h}\" \
             viewBox=\"0 0 {w} {h}\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"{w}\" height=\"{h}\"/>\n"
        );
        // Lines first: boxes lie over them.
        for (net, strokes) in &picture.nets {
            out.push_str(&self.line(net, strokes));
        }
        for frame in &picture.frames {
            out.push_str(&self.frame(frame));
        }
        out.push_str("</svg>\n");
        out
    }

    /// A line from an output to all its consumers.
    fn line(&self, net: &Net, strokes: &[Stroke]) -> String {
        let mut path = String::new();
        let mut tips = String::new();
        for stroke in strokes {
            let (x0, y0) = stroke.from;
            let (x1, y1) = (stroke.to.0, stroke.to.1 - ARROW);
            let middle = px(f64::midpoint(y0, y1));
            let (from, to) = (px(x0), px(x1));
            path.push_str(&format!("M{from} {}C{from} {middle} {to} {middle} {to} {}", px(y0), px(y1)));
            let end = if stroke.arrow { stroke.down_to - ARROW } else { stroke.down_to };
            if end > y1 {
                path.push_str(&format!("V{}", px(end)));
            }
            if stroke.arrow {
                tips.push_str(&format!("M{to} {}l-4-{ARROW}h8z", px(stroke.down_to)));
            }
        }
        let to: Vec<&str> = net.edges.iter().map(|&e| self.nodes[self.edges[e].to].name.as_str()).collect();
        let title = visible(&format!("{} → {}", self.nodes[net.from].name, to.join(", ")));
        format!("<g><title>{title}</title><path class=\"edge\" d=\"{path}\"/><path class=\"tip\" d=\"{tips}\"/></g>\n")
    }

    fn frame(&self, frame: &Frame) -> String {
        let node = &self.nodes[frame.node];
        let class = node.state.map(|s| format!(" {}", s.class())).unwrap_or_default();
        let mut out = format!(
            "<g class=\"node{class}\"><title>{}</title><rect class=\"box\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"6\"/>",
            visible(&node.sentence()),
            px(frame.left),
            px(frame.top),
            px(frame.width),
            px(frame.height)
        );
        for (x, port) in &frame.ports {
            out.push_str(&label(*x, frame.top + 14.0, "port", port));
        }
        let top = frame.top + if frame.ports.is_empty() { 0.0 } else { PORT_ROW };
        let centre = frame.left + frame.width / 2.0;
        for (text, class, below) in
            lines(node).iter().zip(["name", "uses"]).zip([18.0, 34.0]).map(|((t, c), b)| (t, c, b))
        {
            out.push_str(&label(centre, top + below, class, text));
        }
        for (x, output) in &frame.outputs {
            out.push_str(&label(*x, frame.top + frame.height - 7.0, "port", output));
        }
        out.push_str("</g>\n");
        out
    }
}

fn label(x: f64, y: f64, class: &str, text: &str) -> String {
    format!("<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>", px(x), px(y), visible(text))
}

/// State is shown by a word and a glyph as well: colour only adds to them.
const STYLE: &str = "
.mediant-dag text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;text-anchor:middle;fill:#1f2328}
.mediant-dag .name{font-size:14px;font-weight:600}
.mediant-dag .uses{font-size:11px;fill:#59636e}
.mediant-dag .port{font-size:10px;fill:#59636e}
.mediant-dag .page{fill:#ffffff}
.mediant-dag .box{fill:#f6f8fa;stroke:#818b98;stroke-width:1.2}
.mediant-dag .edge{fill:none;stroke:#818b98;stroke-width:1.4}
.mediant-dag .tip{fill:#818b98}
.mediant-dag .cached .box,.mediant-dag .done .box{stroke:#1a7f37;fill:#eafbee}
.mediant-dag .willrun .box{stroke:#9a6700;fill:#fff8e0}
.mediant-dag .depends .box{stroke:#9a6700;stroke-dasharray:5 3}
.mediant-dag .running .box{stroke:#0969da;fill:#e6f3ff;stroke-width:2}
.mediant-dag .failed .box{stroke:#cf222e;fill:#ffebe9;stroke-width:2}
.mediant-dag .skipped .box{stroke-dasharray:2 3}
@media (prefers-color-scheme:dark){
.mediant-dag text{fill:#f0f6fc}
.mediant-dag .uses,.mediant-dag .port{fill:#9198a1}
.mediant-dag .page{fill:#0d1117}
.mediant-dag .box{fill:#151b23;stroke:#656c76}
.mediant-dag .edge{stroke:#8b949e}
.mediant-dag .tip{fill:#8b949e}
.mediant-dag .cached .box,.mediant-dag .done .box{stroke:#3fb950;fill:#0f2417}
.mediant-dag .willrun .box{stroke:#d29922;fill:#272115}
.mediant-dag .depends .box{stroke:#d29922}
.mediant-dag .running .box{stroke:#4493f8;fill:#121d2f}
.mediant-dag .failed .box{stroke:#f85149;fill:#25171c}
}
";
