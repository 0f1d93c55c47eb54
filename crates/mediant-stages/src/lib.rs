//! The catalogue: every stage a pipeline can use, one file each. A stage is its config and its wiring; the mathematics
//! lives in the crates below.

mod ablate;
mod activation_patching;
mod against;
mod aligning;
mod attention_knockout;
mod attention_sinks;
mod attribution_patching;
mod attribution_vs_activation_patching;
mod build_prompts;
mod cache_activations;
mod calibration;
mod causal_trace;
mod columns;
mod command;
mod compare;
mod compare_mediators;
mod corpus_input;
mod device;
mod difference_of_means;
mod direct_logit_attribution;
mod direction;
mod divergence;
mod dla_vs_direct_effect;
mod edge_attribution;
mod entropy_neurons;
mod evaluate_lm;
mod evaluate_mediator;
mod evaluate_sae;
mod evaluate_synth_sae;
mod evaluate_tasks;
mod export;
mod feature_table;
mod finetune;
mod finetuning;
mod fourier_subspace;
mod generate;
mod generate_corpus;
mod integrated_gradients;
mod interchange;
mod intervene;
mod interventions;
mod known_circuit;
mod lm_training;
mod ln_stats;
mod load_model;
mod load_sae;
mod logit_lens;
mod masked;
mod measuring;
mod mediators;
mod model_input;
mod named;
mod own_directions;
mod path_patching;
mod pca;
mod prompts_input;
mod random_weights;
mod remove_layernorm;
mod sae_input;
mod sae_stability;
mod score_agreement;
mod score_auroc;
mod search_mediator;
mod searched;
mod sites;
mod sparse_probing;
mod steer;
mod subspace_overlap;
mod subspaces;
mod synth_sae_bench;
mod table;
mod tokenize;
mod train_das;
mod train_lm;
mod train_mask;
mod train_probe;
mod train_sae;
mod train_tokenizer;
mod vocabulary;

use std::sync::OnceLock;

use mediant_engine::Catalogue;

pub use device::choose_device;

/// Every stage.
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    // One line a stage, in the order of the names.
    CATALOGUE.get_or_init(|| {
        Catalogue::new() //
            .with(ablate::Ablate)
            .with(activation_patching::ActivationPatching)
            .with(attention_knockout::AttentionKnockout)
            .with(attribution_patching::AttributionPatching)
            .with(attribution_vs_activation_patching::AttributionVsActivationPatching)
            .with(attention_sinks::AttentionSinks)
            .with(build_prompts::BuildPrompts)
            .with(cache_activations::CacheActivations)
            .with(calibration::Calibration)
            .with(causal_trace::CausalTrace)
            .with(command::Command)
            .with(compare::Compare)
            .with(compare_mediators::CompareMediators)
            .with(difference_of_means::DifferenceOfMeans)
            .with(direct_logit_attribution::DirectLogitAttribution)
            .with(divergence::Divergence)
            .with(dla_vs_direct_effect::DlaVsDirectEffect)
            .with(edge_attribution::EdgeAttribution)
            .with(entropy_neurons::EntropyNeurons)
            .with(evaluate_lm::EvaluateLm)
            .with(evaluate_mediator::EvaluateMediator)
            .with(evaluate_sae::EvaluateSae)
            .with(evaluate_synth_sae::EvaluateSynthSae)
            .with(evaluate_tasks::EvaluateTasks)
            .with(export::Export)
            .with(feature_table::FeatureTable)
            .with(finetune::Finetune)
            .with(fourier_subspace::FourierSubspace)
            .with(generate::Generate)
            .with(generate_corpus::GenerateCorpus)
            .with(integrated_gradients::IntegratedGradients)
            .with(interchange::Interchange)
            .with(intervene::Intervene)
            .with(known_circuit::KnownCircuitStage)
            .with(ln_stats::LnStats)
            .with(load_model::LoadModel)
            .with(load_sae::LoadSae)
            .with(logit_lens::LogitLens)
            .with(path_patching::PathPatching)
            .with(pca::Pca)
            .with(random_weights::RandomWeights)
            .with(remove_layernorm::RemoveLayernorm)
            .with(sae_stability::SaeStability)
            .with(score_agreement::ScoreAgreement)
            .with(search_mediator::SearchMediator)
            .with(score_auroc::ScoreAuroc)
            .with(sparse_probing::SparseProbing)
            .with(steer::Steer)
            .with(subspace_overlap::SubspaceOverlap)
            .with(synth_sae_bench::SynthSaeBench)
            .with(table::Table)
            .with(tokenize::Tokenize)
            .with(train_das::TrainDas)
            .with(train_lm::TrainLm)
            .with(train_mask::TrainMask)
            .with(train_probe::TrainProbe)
            .with(train_sae::TrainSae)
            .with(train_tokenizer::TrainTokenizer)
    })
}
