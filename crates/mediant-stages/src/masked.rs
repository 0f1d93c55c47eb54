//! Features that a mask chooses from: dimensions of an activation, vectors of a subspace, latents.

use std::collections::BTreeMap;

use mediant_artifact::Mediator;
use mediant_dict::Sae;
use mediant_methods::interchange::Featuriser;
use mediant_methods::subspace::Site;

use crate::aligning::site_tags;
use crate::subspaces::Subspace;

/// How masks are trained: desiderata-based masking.
pub(crate) const DBM: &str = "dbm";

/// What features are, as comparisons name it.
pub(crate) const DIMENSIONS: &str = "dimensions";
pub(crate) const DIRECTIONS: &str = "directions";
pub(crate) const LATENTS: &str = "latents";

/// What is chosen from at a site.
pub(crate) struct FeaturesAt {
    pub(crate) site: Site,
    pub(crate) featuriser: Featuriser,
    /// Of several subspaces at one site, which.
    rank: Option<usize>,
}

impl FeaturesAt {
    pub(crate) fn dimensions(site: Site) -> Self {
        Self { site, featuriser: Featuriser::Dimensions, rank: None }
    }

    pub(crate) fn latents(site: Site, sae: Sae) -> Self {
        Self { site, featuriser: Featuriser::Latents(Box::new(sae)), rank: None }
    }

    pub(crate) fn of_subspace(found: Subspace) -> Self {
        let rank = (!found.nested).then(|| found.basis.rank());
        Self { site: found.site, featuriser: Featuriser::Directions(found.basis), rank }
    }

    /// `dimension`, `direction` or `latent`.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.featuriser {
            Featuriser::Dimensions => "dimension",
            Featuriser::Directions(_) => "direction",
            Featuriser::Latents(_) => "latent",
        }
    }

    /// The same of several.
    pub(crate) fn kinds(&self) -> &'static str {
        match &self.featuriser {
            Featuriser::Dimensions => DIMENSIONS,
            Featuriser::Directions(_) => DIRECTIONS,
            Featuriser::Latents(_) => LATENTS,
        }
    }

    /// The tags of metrics.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        let mut tags = site_tags(&self.site);
        tags.insert("features".to_owned(), self.kinds().to_owned());
        tags.extend(self.rank.map(|rank| ("rank".to_owned(), rank.to_string())));
        tags
    }

    /// One feature.
    pub(crate) fn mediator(&self, unit: usize) -> Mediator {
        let mut mediator = self.site.feature(self.kind(), unit);
        if let Some(rank) = self.rank {
            mediator.name = format!("{} of rank {rank}", mediator.name);
        }
        mediator
    }
}
