//! Every kernel against the same computation in burn's operations, and its gradient against burn's and against central
//! differences.

use burn::backend::{Autodiff, Flex};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Int, Tensor, TensorData, TensorPrimitive};
use mediant_tensor::{Compute, NormScale, plain, random};

type A = Autodiff<Flex>;
type Function = Box<dyn Fn(Vec<FloatTensor<A>>) -> FloatTensor<A>>;

struct Case {
    name: &'static str,
    shapes: Vec<Vec<usize>>,
    kernel: Function,
    oracle: Function,
}

/// A function of the inputs in order, from one that takes an array of them.
fn of<const N: usize>(f: impl Fn([FloatTensor<A>; N]) -> FloatTensor<A> + 'static) -> Function {
    Box::new(move |inputs| f(inputs.try_into().unwrap()))
}

fn ints(values: &[i32]) -> FloatTensorInt {
    Tensor::<A, 1, Int>::from_data(TensorData::from(values), &Default::default()).into_primitive()
}

type FloatTensorInt = burn::tensor::ops::IntTensor<A>;

const COMPUTED: NormScale = NormScale::Computed { eps: 1e-5 };
const FROZEN: NormScale = NormScale::Frozen(0.7);

fn cases() -> Vec<Case> {
    let case = |name, shapes: &[&[usize]], kernel, oracle| Case {
        name,
        shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
        kernel,
        oracle,
    };
    // Sizes that are no multiple of a vector or a block, beside some that are.
    let mut all = vec![
        case("gelu", &[&[3, 7, 37]], of(|[x]| A::gelu_erf(x)), of(|[x]| plain::gelu_erf::<A>(x))),
        case("gelu_new", &[&[3, 7, 37]], of(|[x]| A::gelu_new(x)), of(|[x]| plain::gelu_new::<A>(x))),
        case(
            "silu_mul",
            &[&[5, 37], &[5, 37]],
            of(|[gate, up]| A::silu_mul(gate, up)),
            of(|[gate, up]| plain::silu_mul::<A>(gate, up)),
        ),
        case(
            "layer_norm",
            &[&[2, 9, 37], &[37], &[37]],
            of(|[x, w, b]| A::layer_norm_affine(x, w, b, COMPUTED)),
            of(|[x, w, b]| plain::layer_norm::<A>(x, w, b, COMPUTED)),
        ),
        case(
            "layer_norm over many rows",
            &[&[700, 48], &[48], &[48]],
            of(|[x, w, b]| A::layer_norm_affine(x, w, b, COMPUTED)),
            of(|[x, w, b]| plain::layer_norm::<A>(x, w, b, COMPUTED)),
        ),
        case(
            "layer_norm with a frozen scale",
            &[&[700, 37], &[37], &[37]],
            of(|[x, w, b]| A::layer_norm_affine(x, w, b, FROZEN)),
            of(|[x, w, b]| plain::layer_norm::<A>(x, w, b, FROZEN)),
        ),
        case(
            "rms_norm",
            &[&[700, 37], &[37]],
            of(|[x, w]| A::rms_norm(x, w, COMPUTED)),
            of(|[x, w]| plain::rms_norm::<A>(x, w, COMPUTED)),
        ),
        case(
            "rms_norm with a frozen scale",
            &[&[700, 37], &[37]],
            of(|[x, w]| A::rms_norm(x, w, FROZEN)),
            of(|[x, w]| plain::rms_norm::<A>(x, w, FROZEN)),
        ),
        case(
            "norm_scales, centered",
            &[&[700, 37]],
            of(|[x]| A::norm_scales(x, true, 1e-5)),
            of(|[x]| plain::norm_scales::<A>(x, true, 1e-5)),
        ),
        case(
            "norm_scales",
            &[&[9, 37]],
            of(|[x]| A::norm_scales(x, false, 1e-5)),
            of(|[x]| plain::norm_scales::<A>(x, false, 1e-5)),
        ),
        case(
            "linear with bias",
            &[&[9, 17], &[17, 23], &[23]],
            of(|[x, w, b]| A::affine(x, w, Some(b))),
            of(|[x, w, b]| plain::linear::<A>(x, w, Some(b))),
        ),
        case(
            "linear without bias, one row",
            &[&[1, 17], &[17, 80]],
            of(|[x, w]| A::affine(x, w, None)),
            of(|[x, w]| plain::linear::<A>(x, w, None)),
        ),
        case(
            "causal_softmax",
            &[&[2, 3, 19, 19]],
            of(|[x]| A::causal_softmax(x)),
            of(|[x]| plain::causal_softmax::<A>(x)),
        ),
        case(
            "causal_softmax after earlier keys",
            &[&[2, 3, 5, 19]],
            of(|[x]| A::causal_softmax(x)),
            of(|[x]| plain::causal_softmax::<A>(x)),
        ),
        case(
            "token_nll",
            &[&[4, 53]],
            of(|[x]| A::token_nll(x, ints(&[0, 52, 7, 7]))),
            of(|[x]| plain::token_nll::<A>(x, ints(&[0, 52, 7, 7]))),
        ),
        case(
            "unembed_loss",
            &[&[300, 8], &[2_100, 8]],
            of(|[x, u]| unembed_loss(x, u, |x, u, t, w| A::unembed_loss(x, u, t, w, true).0)),
            of(|[x, u]| unembed_loss(x, u, |x, u, t, w| plain::unembed_loss::<A>(x, u, t, w, false).0)),
        ),
        case(
            "embed",
            &[&[11, 6]],
            of(|[table]| A::embed(table, ids())),
            of(|[table]| <A as burn::tensor::ops::ModuleOps<A>>::embedding(table, ids())),
        ),
    ];
    // (batch, queries, keys, heads, kv_heads, width): several blocks of queries, grouped heads, a cache, odd widths.
    for (name, [b, q, k, h, g, w]) in [
        ("attention", [2, 9, 9, 3, 3, 8]),
        ("attention over several blocks", [1, 150, 150, 2, 2, 32]),
        ("attention with grouped heads", [2, 21, 21, 6, 2, 40]),
        ("attention after earlier keys", [2, 5, 70, 2, 2, 16]),
        ("attention of one query", [2, 1, 33, 4, 1, 16]),
    ] {
        all.push(case(
            name,
            &[&[b, q, h, w], &[b, k, g, w], &[b, k, g, w]],
            of(|[q, k, v]| A::causal_attention(q, k, v, 0.3)),
            of(|[q, k, v]| plain::attention::<A>(q, k, v, 0.3)),
        ));
    }
    all.push(case(
        "attention_qkv",
        &[&[151, 3 * 24]],
        of(|[qkv]| A::attention_qkv(qkv, &[70, 70, 1, 10], 3, 0.3)),
        of(|[qkv]| plain::attention_qkv::<A>(qkv, &[70, 70, 1, 10], 3, 0.3)),
    ));
    all
}

fn ids() -> FloatTensorInt {
    let ids = TensorData::from([[3, 0, 3], [10, 3, 0]]);
    Tensor::<A, 2, Int>::from_data(ids, &Default::default()).into_primitive()
}

fn unembed_loss(
    hidden: FloatTensor<A>,
    unembed: FloatTensor<A>,
    f: impl Fn(FloatTensor<A>, FloatTensor<A>, FloatTensorInt, FloatTensor<A>) -> FloatTensor<A>,
) -> FloatTensor<A> {
    let targets: Vec<i32> = (0..300).map(|i| i * 7 % 2_100).collect();
    let weights: Vec<f32> = (0..300).map(|i| (i % 4) as f32 * 0.1).collect();
    let weights = Tensor::<A, 1>::from_data(TensorData::from(&weights[..]), &Default::default());
    f(hidden, unembed, ints(&targets), weights.into_primitive().tensor())
}

fn random(shape: &[usize], purpose: &str) -> Vec<f32> {
    let mut values = vec![0.0; shape.iter().product()];
    random::fill_normal(&mut random::stream(0, purpose), &mut values, 0.0, 1.0);
    values
}

fn inputs(case: &Case) -> Vec<Vec<f32>> {
    let one = |(i, shape): (usize, &Vec<usize>)| random(shape, &format!("{} {i}", case.name));
    case.shapes.iter().enumerate().map(one).collect()
}

/// The result, and the gradients of `Σ resultᵢ · rᵢ` for fixed random r.
fn evaluate(case: &Case, function: &Function, inputs: &[Vec<f32>]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let device = Default::default();
    let leaves: Vec<Tensor<A, 1>> =
        inputs.iter().map(|x| Tensor::from_data(TensorData::from(&x[..]), &device).require_grad()).collect();
    let shaped = leaves.iter().zip(&case.shapes).map(|(x, shape)| {
        <A as burn::tensor::ops::FloatTensorOps<A>>::float_reshape(
            x.clone().into_primitive().tensor(),
            shape.clone().into(),
        )
    });
    let result = function(shaped.collect());
    let shape: Vec<usize> = burn::tensor::TensorMetadata::shape(&result).to_vec();
    let flat =
        <A as burn::tensor::ops::FloatTensorOps<A>>::float_reshape(result, [shape.iter().product::<usize>()].into());
    let flat: Tensor<A, 1> = Tensor::from_primitive(TensorPrimitive::Float(flat));
    let r = Tensor::from_data(TensorData::from(&random(&shape, "r")[..]), &device);
    let grads = (flat.clone() * r).sum().backward();
    let grads = leaves.iter().map(|x| x.grad(&grads).unwrap().into_data().into_vec().unwrap());
    (flat.into_data().into_vec().unwrap(), grads.collect())
}

fn assert_near(name: &str, what: &str, a: &[f32], b: &[f32], relative: f32) {
    assert_eq!(a.len(), b.len(), "{name}: {what}");
    let largest = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(
            (a - b).abs() <= relative * largest,
            "{name}: {what}[{i}] is {a}, the oracle has {b} (largest {largest})"
        );
    }
}

#[test]
fn kernels_and_their_gradients_are_those_of_burns_operations() {
    for case in cases() {
        let inputs = inputs(&case);
        let (result, grads) = evaluate(&case, &case.kernel, &inputs);
        let (expected, expected_grads) = evaluate(&case, &case.oracle, &inputs);
        // Sums of up to a few hundred terms in f32, in different orders.
        assert_near(case.name, "result", &result, &expected, 2e-6);
        for (i, (grad, expected)) in grads.iter().zip(&expected_grads).enumerate() {
            assert_near(case.name, &format!("gradient {i}"), grad, expected, 1e-5);
        }
    }
}

#[test]
fn gradients_are_those_of_central_differences() {
    const STEP: f32 = 1e-2;
    for case in cases() {
        let inputs = inputs(&case);
        let (result, grads) = evaluate(&case, &case.kernel, &inputs);
        let r = random(&[result.len()], "r");
        let value = |inputs: &[Vec<f32>]| {
            let (result, _) = evaluate(&case, &case.kernel, inputs);
            let terms = result.iter().zip(&r).map(|(&y, &r)| f64::from(y) * f64::from(r));
            terms.sum::<f64>()
        };
        for (i, grad) in grads.iter().enumerate() {
            let largest = grad.iter().fold(0.0f64, |m, &g| m.max(f64::from(g).abs()));
            for at in [0, grad.len() / 2, grad.len() - 1] {
                let moved = |by: f32| {
                    let mut inputs = inputs.clone();
                    inputs[i][at] += by;
                    value(&inputs)
                };
                let difference = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
                let error = (difference - f64::from(grad[at])).abs();
                // The third derivative times STEP²/6, and roundings of about 1e-6 of the sum divided by the step.
                assert!(
                    error <= 2e-3 * largest.max(1.0),
                    "{}: input {i}, element {at}: {difference} against {}",
                    case.name,
                    grad[at]
                );
            }
        }
    }
}
