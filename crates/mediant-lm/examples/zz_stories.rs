//! by hand
#![allow(clippy::unwrap_used, clippy::print_stdout)]
use mediant_artifact::*;
use mediant_lm::*;
use mediant_tensor::Flex;
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let dir = std::path::Path::new("/work/shared/data/weights-llama-tiny/stories260K-hf");
    let out = tempfile::TempDir::new().unwrap();
    let w = ArtifactWriter::create(out.path(), Kind::Model).unwrap();
    let hf = HfFolder::open(dir).unwrap();
    println!("{:?}", hf.facts().unwrap().tokenizer);
    import(&hf, w, |_, _| Ok::<_, Error>(())).unwrap();
    let t = std::time::Instant::now();
    let model: Model<Flex> = load(&Artifact::open(out.path()).unwrap(), &Default::default()).unwrap();
    println!("load {:?}", t.elapsed());
    let g: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("golden.json")).unwrap()).unwrap();
    let ids: Vec<i32> = g["greedy_ids"].as_array().unwrap().iter().map(|x| x.as_i64().unwrap() as i32).collect();
    println!("{} ids; keys {:?}", ids.len(), g.as_object().unwrap().keys().collect::<Vec<_>>());
    let t = std::time::Instant::now();
    let added = generate(&model, &[vec![1]], &Sampling::default(), &Until { tokens: 100, stop: None }, 0, |_| Ok::<_, Error>(())).unwrap();
    println!("greedy equal: {} ({:?})", added[0] == ids[1..], t.elapsed());
    let batch = Batch::new(model.config(), &[&ids[..32]], &model.device()).unwrap();
    let logits = model.logits(model.hidden(&batch, Hooks::none()).unwrap());
    let l: Vec<f32> = logits.clone().narrow(0, 31, 1).into_data().into_vec().unwrap();
    let e: Vec<f32> = g["logits_pos31"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    println!("logits off {:e}", l.iter().zip(&e).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max));
    let losses = model.losses(&batch, Hooks::none()).unwrap();
    let mean = losses.iter().map(|x| f64::from(*x)).sum::<f64>() / losses.len() as f64;
    for (k, v) in g.as_object().unwrap() { if v.is_number() { println!("{k} = {v}"); } }
    println!("mean loss of {} predicted: {mean}", losses.len());
}
