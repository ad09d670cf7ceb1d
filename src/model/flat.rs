//! Keeps the trained parameters of one network as views into one flat buffer, so that optimiser, EMA and checkpoints
//! work on one tensor instead of hundreds.

use super::script::ScriptModule;
use crate::tensor::no_grad;
use anyhow::{Result, anyhow};
use tch::{Kind, Tensor};

/// One flat f32 buffer and the module's parameters that are views into it.
pub struct FlatParameters {
    /// The values of all parameters, [total]; writing to it changes the module.
    pub values: Tensor,
    /// The module's own leaf tensors, in order; gradients are taken for these.
    pub leaves: Vec<Tensor>,
    /// The names of the leaves, as in the module.
    pub names: Vec<String>,
}

impl FlatParameters {
    /// Moves the trained parameters of `module` into one buffer.
    pub fn adopt(module: &mut ScriptModule) -> Self {
        let trained: Vec<_> = module.parameters.iter_mut().filter(|p| p.trainable).collect();
        let values =
            no_grad(|| Tensor::cat(&trained.iter().map(|p| p.tensor.detach().reshape([-1])).collect::<Vec<_>>(), 0));
        let (mut leaves, mut names, mut offset) = (Vec::new(), Vec::new(), 0);
        for parameter in trained {
            let count = parameter.tensor.numel() as i64;
            let view = values.narrow(0, offset, count).view(parameter.tensor.size().as_slice());
            parameter.tensor.set_data(&view);
            leaves.push(parameter.tensor.shallow_clone());
            names.push(parameter.name.clone());
            offset += count;
        }
        Self { values, leaves, names }
    }

    /// Returns the gradient of a scalar with respect to all parameters, flat and in order; parameters that the scalar
    /// does not depend on get zeros. Nothing else's gradient is computed.
    ///
    /// # Errors
    /// libtorch refuses the backward pass, for lack of memory for instance.
    pub fn gradient(&self, loss: &Tensor) -> Result<Tensor> {
        let gradients = Tensor::f_run_backward(&[loss], &self.leaves, false, false)
            .map_err(|error| anyhow!("backward pass failed: {}", crate::tensor::one_line(&error)))?;
        let flat: Vec<Tensor> = gradients
            .iter()
            .zip(&self.leaves)
            .map(|(gradient, leaf)| match gradient.defined() {
                true => gradient.detach().reshape([-1]),
                false => Tensor::zeros([leaf.numel() as i64], (Kind::Float, leaf.device())),
            })
            .collect();
        Ok(Tensor::cat(&flat, 0))
    }

    /// Takes a flat tensor of all parameters apart: views by name, each of its parameter's shape.
    pub fn split<'a>(&'a self, flat: &'a Tensor) -> impl Iterator<Item = (&'a str, Tensor)> {
        let mut offset = 0;
        self.names.iter().zip(&self.leaves).map(move |(name, leaf)| {
            let count = leaf.numel() as i64;
            let part = flat.narrow(0, offset, count).view(leaf.size().as_slice());
            offset += count;
            (name.as_str(), part)
        })
    }

    /// Returns the name of the parameter that a place of the flat buffer, 0 to total - 1, belongs to; None beyond.
    pub fn name_at(&self, place: i64) -> Option<&str> {
        let mut end = 0;
        let mut ends_behind = |leaf: &Tensor| {
            end += leaf.numel() as i64;
            place < end
        };
        self.names.iter().zip(&self.leaves).find(|(_, leaf)| ends_behind(leaf)).map(|(name, _)| name.as_str())
    }
}
