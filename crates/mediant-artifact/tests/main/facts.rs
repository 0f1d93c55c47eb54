//! Facts and small values travel as JSON.

use mediant_artifact::{
    ActivationsFacts, DType, Digest, DirectionsFacts, Facts, HookFact, Kind, MeasuredFacts, ModelFacts, ModelTokenizer,
    NormFacts, Processing, PromptsFacts, SearchFacts, SubspaceFact, TableFacts, TokensFacts,
};

fn model() -> ModelFacts {
    let hook = |name: &str, shape: &[usize]| HookFact { name: name.to_owned(), shape: shape.to_vec() };
    ModelFacts {
        architecture: "gpt2".to_owned(),
        n_layers: 1,
        d_model: 8,
        n_heads: 2,
        n_kv_heads: 2,
        d_head: 4,
        d_mlp: 32,
        vocab_size: 100,
        context: 16,
        tokenizer: ModelTokenizer::Known(Digest::of(b"{}")),
        parameters: 1_234,
        hooks: [hook("blocks.0.hook_resid_pre", &[8]), hook("blocks.0.attn.hook_z", &[2, 4])].into(),
        norms: NormFacts::PartlyFrozen(vec!["blocks.0.ln2".to_owned()]),
        processing: Processing { fold_ln: true, ..Processing::default() },
    }
}

fn search() -> SearchFacts {
    SearchFacts { mediator: "heads".to_owned(), method: "eap_ig".to_owned(), shuffled: None }
}

#[test]
fn facts_survive_json() {
    let hooks = model().hooks.to_vec();
    let all = [
        Facts::Model(model()),
        Facts::Labels,
        Facts::Metrics,
        Facts::Effects(None),
        Facts::Effects(Some(MeasuredFacts {
            search: Some(search()),
            metric: "logit_diff".to_owned(),
            outside: Some("live".to_owned()),
            random: true,
        })),
        Facts::Scores(None),
        Facts::Scores(Some(search())),
        Facts::Prompts(PromptsFacts {
            counterfactuals: vec!["abc".to_owned()],
            spans: None,
            tokenizer: Some(Digest::of(b"{}")),
            vocab_size: Some(100),
            longest: None,
            prompts: Some(3),
            prepend_bos: true,
            wrong: None,
            variables: None,
        }),
        Facts::Tokens(TokensFacts {
            tokenizer: None,
            vocab_size: Some(100),
            context: 16,
            prepend_bos: true,
            sequences: None,
            tokens: None,
        }),
        Facts::Activations(ActivationsFacts {
            hooks,
            dtype: DType::BF16,
            rows: Some(7),
            model: Some(Box::new(model())),
        }),
        Facts::Directions(DirectionsFacts {
            nested: Some(true),
            subspaces: Some(vec![SubspaceFact {
                hook: model().hooks[0].clone(),
                positions: "\"last\"".to_owned(),
                rank: None,
            }]),
            search: Some(search()),
        }),
        Facts::Table(TableFacts { columns: Some(vec!["a".to_owned()]) }),
    ];
    for facts in all {
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&json).unwrap(), facts);
    }
    assert_eq!(serde_json::to_string(&Facts::Labels).unwrap(), r#""labels""#);
}

#[test]
fn hooks_are_found_by_name() {
    let facts = Facts::Model(model());
    let model = facts.model().unwrap();
    assert_eq!(model.hook("blocks.0.attn.hook_z").unwrap().width(), 8);
    assert!(model.hook("blocks.1.attn.hook_z").is_none());
    assert!(facts.tokens().is_none());
    assert_eq!(facts.kind(), Kind::Model);
}

#[test]
fn digests_kinds_and_formats_have_one_text_each() {
    let digest = Digest::of(b"");
    let text = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!(digest.to_string(), text);
    assert_eq!((text.parse::<Digest>().unwrap(), digest.short()), (digest, text[..12].to_owned()));
    for wrong in ["", &text[1..], &text.to_uppercase(), &format!("{text}0"), "é"] {
        assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
    }
    for kind in Kind::ALL {
        assert_eq!(kind.name().parse::<Kind>().unwrap(), kind);
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
    for dtype in DType::ALL {
        assert_eq!(dtype.name().parse::<DType>().unwrap(), dtype);
        assert_eq!(serde_json::to_value(dtype).unwrap(), dtype.name());
    }
}

#[test]
fn narrow_formats_round_to_nearest_even() {
    let values = [0.0, -0.0, 1.0, 1.0 + f32::EPSILON, 65_504.0, 65_520.0, -1e-8, 3.0e38, f32::INFINITY, 1.0e-40];
    for value in values.into_iter().chain([f32::NAN]) {
        let through = |dtype: DType| {
            let (mut bytes, mut out) = (Vec::new(), [0.0]);
            dtype.encode(&[value], &mut bytes);
            dtype.decode(&bytes, &mut out).unwrap();
            out[0].to_bits()
        };
        assert_eq!(through(DType::F32), value.to_bits());
        assert_eq!(through(DType::F16), half::f16::from_f32(value).to_f32().to_bits(), "{value}");
        assert_eq!(through(DType::BF16), half::bf16::from_f32(value).to_f32().to_bits(), "{value}");
    }
    assert!(DType::F16.decode(&[0; 3], &mut [0.0; 2]).is_err());
}
