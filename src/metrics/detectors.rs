//! The loaded detectors, and which of them each metric takes.

use anyhow::{Context, Result, ensure};

use super::detector::{Detector, DetectorId};
use super::formula::Formula;

/// The networks that make features. Metrics that the field computes with VGG16 take `vgg` where it is given.
#[derive(Default)]
pub struct Detectors {
    /// Detector for Frechet and kernel distance and inception score, and for the others where `vgg` is not given.
    pub main: Option<Detector>,
    /// Detector for precision, recall, density, coverage and path length.
    pub vgg: Option<Detector>,
}

/// The place of a detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    Main,
    Vgg,
}

impl Slot {
    pub const ALL: [Slot; 2] = [Slot::Main, Slot::Vgg];
}

impl Detectors {
    pub(super) fn slot(&self, formula: &dyn Formula) -> Slot {
        if formula.is_of_vgg() && self.vgg.is_some() { Slot::Vgg } else { Slot::Main }
    }

    /// Returns the detector, or the error that says how to get one.
    pub(super) fn need(&self, slot: Slot) -> Result<&Detector> {
        self.get(slot).context(
            "there is no detector to make features with; pass --detector FILE: rootgan detector makes one, \
             docs/metrics.md says where the one of published FIDs comes from",
        )
    }

    /// Refuses saved features of a detector other than the loaded one.
    pub(super) fn ensure_same(&self, slot: Slot, id: &DetectorId) -> Result<()> {
        if let Some(loaded) = self.get(slot) {
            ensure!(
                loaded.id.sha256 == id.sha256,
                "cannot use the saved features: they are of {}, --detector is {}; pass the detector that made them",
                id.in_short(),
                loaded.id.in_short()
            );
        }
        Ok(())
    }

    fn get(&self, slot: Slot) -> Option<&Detector> {
        match slot {
            Slot::Main => self.main.as_ref(),
            Slot::Vgg => self.vgg.as_ref(),
        }
    }
}
