//! The state of a training in a file.

use std::path::Path;

use mediant_tensor::Compute;
use mediant_tensor::checkpoint::{self, Checkpoint, State};

use super::trainer::{Trained, Trainer};
use crate::{Model, Parameter, Result};

impl<B: Compute> Trainer<'_, B> {
    /// Writes parameters, moments and the number of steps, and what the caller wants kept beside them.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path, beside: &[(&str, &[u64])]) -> Result<()> {
        let mut state = State::default();
        for parameter in &self.parameters {
            let slot = parameter.slot;
            state.tensor(format!("parameter/{slot}"), &parameter.shape, &parameter.values);
            state.tensor(format!("first/{slot}"), &parameter.shape, &parameter.moments.first);
            state.tensor(format!("second/{slot}"), &parameter.shape, &parameter.moments.second);
        }
        state.words("step", &[self.step]);
        if let Some(removing) = &self.removing {
            removing.save(&self.config, &mut state);
        }
        for (name, words) in beside {
            state.words(format!("beside/{name}"), words);
        }
        Ok(checkpoint::save(path, &state)?)
    }

    /// Goes on from a file of [`Trainer::save`] of the same training: the lists `beside` are given back in order.
    ///
    /// # Errors
    /// If the file is none, or one of another training.
    pub fn resume(&mut self, path: &Path, beside: &[&str]) -> Result<Vec<Vec<u64>>> {
        let mut file = Checkpoint::load(path)?;
        let [step] = file.words("step")?;
        let mut parameters = Vec::new();
        for parameter in &self.parameters {
            let slot = parameter.slot;
            let mut part = |part: &str| file.tensor(&format!("{part}/{slot}"), &parameter.shape);
            parameters.push([part("parameter")?, part("first")?, part("second")?]);
        }
        let beside = beside.iter().map(|name| file.word_list(&format!("beside/{name}"))).collect::<Result<_, _>>()?;
        if let Some(removing) = &mut self.removing {
            removing.load(&mut file, &mut self.config)?;
        }
        file.finish()?;
        self.step = step;
        for (parameter, [values, first, second]) in self.parameters.iter_mut().zip(parameters) {
            parameter.values = values;
            parameter.moments.first = first;
            parameter.moments.second = second;
        }
        Ok(beside)
    }

    /// Writes the parameters as they are now.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_snapshot(&self, path: &Path) -> Result<()> {
        let mut state = State::default();
        for parameter in &self.parameters {
            state.tensor(parameter.slot.to_string(), &parameter.shape, &parameter.values);
        }
        if let Some(removing) = &self.removing {
            removing.save_scales(&mut state);
        }
        Ok(checkpoint::save(path, &state)?)
    }

    /// The model of a file of [`Trainer::save_snapshot`].
    ///
    /// # Errors
    /// If the file is none, or one of another training.
    pub fn load_snapshot(&self, path: &Path) -> Result<Model<B>> {
        let mut file = Checkpoint::load(path)?;
        let read = |parameter: &Trained| {
            let values = file.tensor(&parameter.slot.to_string(), &parameter.shape)?;
            Ok((parameter.slot, Parameter::new(values, &parameter.shape, &self.device)?))
        };
        let parameters = self.parameters.iter().map(read).collect::<Result<Vec<_>>>()?;
        let config = match &self.removing {
            Some(removing) => removing.config_of(&mut file, &self.config)?,
            None => self.config.clone(),
        };
        file.finish()?;
        Model::new(config, parameters)
    }
}
