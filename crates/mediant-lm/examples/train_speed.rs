use std::time::Instant;
use mediant_artifact::{Tokens, TokensMeta};
use mediant_lm::{LmConfig, train::*};
use mediant_tensor::{Flex, optim::Adam, schedule::Schedule};
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let arg = |i: usize, d: usize| std::env::args().nth(i).map_or(d, |s| s.parse().unwrap());
    let (context, batch, steps, vocab) = (arg(1, 64), arg(2, 32), arg(3, 40), arg(4, 2000));
    let shape = Gpt2Shape { n_layers: 4, d_model: 128, n_heads: 4, d_mlp: 512, vocab_size: vocab, context, tied: true };
    let config = LmConfig::from_json(&gpt2_config(&shape, None, None, 0.0)).unwrap();
    let n = 2000;
    let ids: Vec<i32> = (0..n * context).map(|i| ((i * 7919 + i / 13 * 31) % vocab) as i32).collect();
    let meta = TokensMeta { tokenizer: None, vocab_size: vocab, context, packed: true, prepend_bos: false, bos: None, separator: None, split: "train".into(), documents: 1, tokens: ids.len() as u64, sequences: n as u64 };
    let tokens = Tokens { meta, offsets: (0..=n).map(|i| i * context).collect(), mask: vec![true; ids.len()], ids };
    let training = Training { seed: 0, batch, accumulate: 1, schedule: Schedule::Constant { lr: 1e-3 }, adam: Adam { betas: (0.9, 0.95), weight_decay: 0.1, decoupled: true, ..Adam::default() }, clip: Some(1.0), dropout: 0.0 };
    let mut t = Trainer::<Flex>::new(config, training, &tokens, Default::default()).unwrap();
    let mut times = vec![];
    for i in 0..steps {
        let s = Instant::now();
        let r = t.step().unwrap();
        times.push(s.elapsed().as_secs_f64());
        if i == 0 || i == steps - 1 { println!("{r:?}"); }
    }
    let tok = (batch * context) as f64;
    times.sort_by(f64::total_cmp);
    println!("ctx {context} batch {batch} threads {}: median {:.2} ms {:.0} tok/s; best {:.2} ms {:.0} tok/s", rayon::current_num_threads(), times[steps/2]*1e3, tok/times[steps/2], times[0]*1e3, tok/times[0]);
}
