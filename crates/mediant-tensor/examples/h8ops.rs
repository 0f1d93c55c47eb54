use mediant_tensor::{Compute, Flex, Int, Tensor, TensorData, ops, random};
use std::time::Instant;
fn t<const D: usize>(s: [usize; D]) -> Tensor<Flex, D> {
    let mut v = vec![0.0; s.iter().product()];
    random::fill_normal(&mut random::stream(0, "x"), &mut v, 0.0, 1.0);
    Tensor::from_data(TensorData::new(v, s), &Default::default())
}
fn p<const D: usize>(x: &Tensor<Flex, D>) -> <Flex as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive { x.clone().into_primitive().tensor() }
fn time<R>(name: &str, per_step: f64, mut f: impl FnMut() -> R) {
    let mut v = vec![];
    for _ in 0..60 { let s = Instant::now(); let r = f(); v.push(s.elapsed().as_secs_f64() * 1e3); drop(r); }
    v.sort_by(f64::total_cmp);
    println!("{name:30} {:.3} ms min, {:.3} median; x{per_step} = {:.2} ms/step", v[0], v[30], v[0] * per_step);
}
fn main() {
    let n = 2048; let d = 128; let b = 32; let tt = 64; let vocab = 2000;
    let x = t([n, d]); let w = t([d]); let h = t([n, 4 * d]); let qkv = t([b, tt, 3 * d]); let z = t([b, tt, d]);
    time("layer_norm", 9.0, || ops::layer_norm(x.clone(), w.clone(), w.clone(), 1e-5));
    time("layer_norm_backward", 9.0, || Flex::layer_norm_backward(p(&x), p(&w), p(&x), 1e-5));
    time("gelu", 4.0, || ops::gelu_new(h.clone()));
    time("gelu_backward", 4.0, || Flex::gelu_new_backward(p(&h), p(&h)));
    time("attention", 4.0, || ops::attention_qkv(qkv.clone(), 4, 0.17));
    time("attention_backward", 4.0, || Flex::attention_qkv_backward(p(&qkv), p(&z), 4, 0.17));
    for (i, o) in [(d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)] {
        let (x, w, g, bias) = (t([n, i]), t([i, o]), t([n, o]), t([o]));
        let gf = 2e-6 * (n * i * o) as f64;
        println!("  {i}x{o}: {gf:.1} MFLOP");
        time("linear", 4.0, || ops::linear(x.clone(), w.clone(), Some(bias.clone())));
        time("linear dx", 4.0, || Flex::affine(p(&g), p(&w.clone().transpose()), None));
        time("linear dw", 4.0, || x.clone().transpose().matmul(g.clone()));
        time("sum_rows", 4.0, || Flex::sum_rows(p(&g)));
    }
    let u = t([vocab, d]);
    let targets = Tensor::<Flex, 1, Int>::from_data(TensorData::from(&(0..n as i32).map(|i| i % 2000).collect::<Vec<_>>()[..]), &Default::default());
    let wt = t([n]);
    time("unembed_loss", 1.0, || Flex::unembed_loss(p(&x), p(&u), targets.clone().into_primitive(), p(&wt), true));
    println!("   {:.1} MFLOP", 6e-6 * (n * d * vocab) as f64);
    time("embed_grad", 2.0, || Flex::embed_grad(vocab, targets.clone().into_primitive(), p(&x)));
    time("embedding", 2.0, || ops::embedding(u.clone(), targets.clone().reshape([1, n])));
    time("add", 16.0, || x.clone() + x.clone());
}
