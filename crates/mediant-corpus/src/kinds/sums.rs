//! Small sums: "3 plus 4 is 7." Operands 0 to 12; every sixth unordered pair is held out, and one way of asking.

use std::sync::LazyLock;

use crate::Split;
use crate::document::Sentence;
use crate::draw::Draw;
use crate::lexicon::{Class, Reserve, numeral};
use crate::template::{Fill, Part, Templates, common, reserved, seen};

/// The largest operand.
const LARGEST: usize = 12;

const FORMS: [Part; 5] = [
    seen("plus", "{first} plus {second} is {sum}."),
    seen("sum_of", "The sum of {first} and {second} is {sum}."),
    seen("add", "If you add {first} and {second} you get {sum}."),
    seen("equal", "{first} plus {second} is equal to {sum}."),
    reserved("and_make", "{first} and {second} make {sum}."),
];

static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| Templates::combine("sums", &[&FORMS]));

static PAIRS: LazyLock<Reserve<(usize, usize)>> = LazyLock::new(|| {
    Reserve::every((0..=LARGEST).flat_map(|first| (first..=LARGEST).map(move |second| (first, second))), 6, 2)
});

pub(super) fn write(split: Split, draw: &mut Draw, out: &mut Sentence) {
    let template = &TEMPLATES.of(split)[draw.below(TEMPLATES.of(split).len())];
    let pair = draw.pick(PAIRS.of(split));
    let (first, second) = if draw.chance(50) { pair } else { (pair.1, pair.0) };
    let sum = first + second;
    // A mistake is one or two off and itself a sum of two operands.
    let near: Vec<_> = (sum.saturating_sub(2)..=sum + 2).filter(|&n| n != sum && n <= 2 * LARGEST).collect();
    let wrong = draw.pick(&near);
    let number = |n| Fill::new(numeral(n), Class::Number);
    template.write(out, |slot| match slot {
        "first" => number(first).with("operand", numeral(first)),
        "second" => number(second).with("operand", numeral(second)),
        "sum" => number(sum).with("sum", numeral(sum)).answer(numeral(wrong)),
        _ => common(slot, draw),
    });
    out.condition = numeral(sum);
    out.about("sum", numeral(sum));
}
