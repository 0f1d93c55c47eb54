//! What is exchanged at a site, with its controls.

use std::collections::BTreeMap;

use mediant_artifact::{Budget, Mediator};
use mediant_methods::interchange::{Exchange, Features, Featuriser};
use mediant_methods::layer;
use mediant_methods::subspace::{Site, random_basis};
use mediant_tensor::random::{shuffle, stream};

use crate::aligning::site_tags;
use crate::masked::{DIRECTIONS, FeaturesAt};
use crate::subspaces::Subspace;

/// Features of a site that are taken from the counterfactual.
pub(super) struct Choice {
    site: Site,
    /// `directions`, `dimensions` or `latents`, chosen by what is measured; or its controls, `random` and `full_vector`.
    what: &'static str,
    /// How many features are taken.
    size: usize,
    /// Of how many.
    of: usize,
    /// Whether they are a subspace, all of whose directions are taken, or some features of many, chosen by a mask.
    masked: bool,
    featuriser: Featuriser,
    features: Features,
}

impl Choice {
    /// The first `ranks` vectors of a subspace, random subspaces as large, and the full vector.
    pub(super) fn of_subspace(subspace: &Subspace, ranks: &[usize], seed: u64) -> Vec<Self> {
        let Subspace { site, basis, .. } = subspace;
        let width = basis.width();
        let choice = |what, size, basis| Self {
            site: site.clone(),
            what,
            size,
            of: width,
            masked: false,
            featuriser: Featuriser::Directions(basis),
            features: Features::Of((0..size).collect()),
        };
        let random = |rank: usize| random_basis(width, rank, seed, &format!("random {site} {rank}"));
        let given = ranks.iter().map(|&rank| choice(DIRECTIONS, rank, basis.clone()));
        let control = ranks.iter().map(|&rank| choice("random", rank, random(rank)));
        given.chain(control).chain([Self::whole(site, width, false)]).collect()
    }

    /// The features that a mask chooses of `of`, as many random ones, and the full vector.
    pub(super) fn of_mask(features: FeaturesAt, chosen: Vec<usize>, of: usize, width: usize, seed: u64) -> Vec<Self> {
        let what = features.kinds();
        let FeaturesAt { site, featuriser, .. } = features;
        let mut drawn: Vec<usize> = (0..of).collect();
        shuffle(&mut stream(seed, &format!("random features {site}")), &mut drawn);
        drawn.truncate(chosen.len());
        drawn.sort_unstable();
        let whole = Self::whole(&site, width, true);
        let choice = |what, features: Vec<usize>| Self {
            site: site.clone(),
            what,
            size: features.len(),
            of,
            masked: true,
            featuriser: featuriser.clone(),
            features: Features::Of(features),
        };
        vec![choice(what, chosen), choice("random", drawn), whole]
    }

    fn whole(site: &Site, width: usize, masked: bool) -> Self {
        Self {
            site: site.clone(),
            what: "full_vector",
            size: width,
            of: width,
            masked,
            featuriser: Featuriser::Dimensions,
            features: Features::Whole,
        }
    }

    /// Whether both are the full vector of one site.
    pub(super) fn same_whole(&self, other: &Self) -> bool {
        self.what == "full_vector" && other.what == "full_vector" && self.site == other.site
    }

    pub(super) fn exchange(&self) -> Exchange<'_> {
        Exchange { site: self.site.clone(), featuriser: &self.featuriser, sets: vec![self.features.clone()] }
    }

    pub(super) fn tags(&self) -> BTreeMap<String, String> {
        let mut tags = site_tags(&self.site);
        tags.insert("features".to_owned(), self.what.to_owned());
        let counted = if self.masked { "chosen" } else { "rank" };
        tags.insert(counted.to_owned(), self.size.to_string());
        tags
    }

    pub(super) fn mediator(&self) -> Mediator {
        let Self { site, what, size, of, .. } = self;
        let name = match self.masked {
            true => format!("{site} {what}: {size} of {of}"),
            false => format!("{site} {what} of rank {size}"),
        };
        Mediator {
            name,
            kind: (*what).to_owned(),
            hook: Some(site.point.to_string()),
            layer: layer(site.point),
            span: site.positions.span().map(str::to_owned),
            budget: Some(Budget { kept: *size as u32, of: *of as u32, ..Budget::default() }),
            ..Mediator::default()
        }
    }
}
