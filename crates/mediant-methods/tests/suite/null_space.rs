//! Where entropy neurons are looked for: the same directions, whether a model's norms are frozen or part of its weights.

use mediant_artifact::{Artifact, ArtifactWriter, Kind};
use mediant_lm::{HfFolder, Model, export, import, load, save};
use mediant_methods::Error;
use mediant_methods::entropy_neurons::{Activity, LastLayer, Spectrum};
use mediant_tensor::Flex;
use serde_json::Value;
use tempfile::TempDir;

use super::experiments::{absent, frozen};
use super::prompts::{fixture, fixture_model};
use super::support::tokens;

fn json() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("gpt2").join("config.json")).unwrap()).unwrap()
}

/// A model as it comes back from a folder for stock code, its frozen scales in its gains.
fn reloaded(model: &Model<Flex>) -> Model<Flex> {
    let folder = TempDir::new().unwrap();
    let writer = |name: &str| {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        ArtifactWriter::create(&folder.path().join(name), Kind::Model).unwrap()
    };
    save(model, &json(), &[], writer("saved")).unwrap();
    let stock = folder.path().join("stock");
    std::fs::create_dir(&stock).unwrap();
    export(&Artifact::open(&folder.path().join("saved")).unwrap(), &stock).unwrap();
    let stock = HfFolder::open(&stock).unwrap();
    import(&stock, Default::default(), writer("back"), |_, _| Ok::<_, mediant_lm::Error>(())).unwrap();
    load(&Artifact::open(&folder.path().join("back")).unwrap(), &Default::default()).unwrap()
}

/// What a neuron writes along the `count` directions that are read least.
fn null_mass(layer: &LastLayer, spectrum: &Spectrum, neuron: usize, count: usize) -> f64 {
    layer.profile(neuron, spectrum).iter().rev().take(count).sum()
}

#[test]
fn the_null_space_is_the_same_with_frozen_norms_and_with_none() {
    let frozen = frozen(&fixture_model("gpt2"), true);
    let absent = absent(&frozen, &json());
    let models = [&frozen, &absent];
    let layers = models.map(|model| LastLayer::of(model).unwrap());
    let spectra = [layers[0].spectrum(), layers[1].spectrum()];
    let width = frozen.config().d_model;
    for spectrum in &spectra {
        assert_eq!(spectrum.directions.len(), width - 1, "the direction of the mean is none of them");
        assert!(spectrum.directions.iter().all(|direction| direction.iter().sum::<f64>().abs() < 1e-5));
    }
    for (a, b) in spectra[0].values.iter().zip(&spectra[1].values) {
        // The frozen scale is part of the other unembedding.
        let (a, b) = (a / spectra[0].values[0], b / spectra[1].values[0]);
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    let candidates = [0, 1].map(|i| layers[i].candidates::<Flex>(&models[i].device()).unwrap());
    for (one, other) in candidates[0].iter().zip(&candidates[1]) {
        assert_eq!(one.neuron, other.neuron);
        assert!((one.norm - other.norm).abs() < 1e-4 * one.norm, "{one:?} {other:?}");
        assert!((one.logit_var - other.logit_var).abs() < 1e-4 * one.logit_var, "{one:?} {other:?}");
        for count in [1, width / 16, width / 2] {
            let mass = [0, 1].map(|i| null_mass(&layers[i], &spectra[i], one.neuron, count));
            assert!((mass[0] - mass[1]).abs() < 1e-4, "{one:?} {mass:?}");
        }
    }
    // An RMSNorm does not take the mean away, nor do weights that hold one.
    let rms = fixture_model("llama");
    assert_eq!(LastLayer::of(&rms).unwrap().spectrum().directions.len(), rms.config().d_model);
}

#[test]
fn a_planted_neuron_is_the_same_however_the_model_was_stored() {
    let frozen = frozen(&fixture_model("gpt2"), true);
    let tokens = tokens(12);
    let planted = |model: &Model<Flex>| {
        let layer = LastLayer::of(model).unwrap();
        let spectrum = layer.spectrum();
        for direction in &spectrum.directions {
            let largest = direction.iter().fold(0.0, |most: f64, x| if x.abs() > most.abs() { *x } else { most });
            assert!(largest > 0.0, "{direction:?}");
        }
        let activity = Activity::of(model, &tokens, |_, _| Ok::<_, Error>(())).unwrap();
        activity.planted(&layer, &spectrum).unwrap()
    };
    let expected = planted(&frozen);
    let length = expected.vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (how, other) in [("stock", reloaded(&frozen)), ("folded", absent(&frozen, &json()))] {
        let found = planted(&other);
        assert_eq!(found.neuron, expected.neuron, "{how}");
        for (a, b) in found.vector.iter().zip(&expected.vector) {
            assert!((a - b).abs() < 1e-3 * length, "{how}: {a} {b}");
        }
    }
}
