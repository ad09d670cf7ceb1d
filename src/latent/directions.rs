//! Directions in W along which pictures change: those that the affine layers amplify most (SeFa), and those along which w
//! varies most (PCA). They are saved as safetensors.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tch::{Kind, Tensor};

use crate::model::{Generator, weights};

/// Names of the tensors in a file.
const DIRECTIONS: &str = "directions";
const STRENGTHS: &str = "strengths";
const DEVIATIONS: &str = "deviations";

/// The way in which directions are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Closed-form factorisation of the affine layers.
    Sefa,
    /// Principal components of w.
    Pca,
}

impl Method {
    /// Returns its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Method::Sefa => "sefa",
            Method::Pca => "pca",
        }
    }
}

/// Directions of unit length, the strongest first.
#[derive(Debug)]
pub struct Directions {
    /// Directions [K, w_dim], float32; the component of each that is largest without its sign is positive.
    pub directions: Tensor,
    /// Eigenvalues [K], float64: the squared gain of the affine layers for SeFa, the variance of w for PCA.
    pub strengths: Tensor,
    /// Standard deviations of w along the directions [K], float64: the unit in which they are walked.
    pub deviations: Tensor,
    /// The method, the layers, the seed and the generator, as text.
    pub metadata: HashMap<String, String>,
}

impl Directions {
    /// Finds directions by one of the methods.
    ///
    /// # Shapes
    /// `w` [N, w_dim], the latents along which deviations are measured and which PCA is of; `affines`: as for [`sefa`].
    ///
    /// # Errors
    /// `count` is 0 or more than w_dim, or SeFa has no layers.
    pub fn find(method: Method, w: &Tensor, affines: &[Tensor], count: i64) -> Result<Self> {
        let w_dim = w.size()[1];
        ensure!((1..=w_dim).contains(&count), "cannot find {count} directions in W; pass a --count of 1 to {w_dim}");
        ensure!(w.size()[0] > 1, "cannot find directions in W of one latent; pass --samples 2 or more");
        let (directions, strengths) = match method {
            Method::Sefa => sefa(affines, count)?,
            Method::Pca => pca(w, count),
        };
        let along = centred(w).matmul(&directions.tr());
        let deviations = along.square().mean_dim([0i64].as_slice(), false, Kind::Double).sqrt();
        Ok(Self { directions: directions.to_kind(Kind::Float), strengths, deviations, metadata: HashMap::new() })
    }

    /// Returns what moves ws by `strength` standard deviations along one direction, on the rows `layers` alone:
    /// [num_ws, w_dim].
    ///
    /// # Errors
    /// There is no direction of this number.
    pub fn shift(&self, index: i64, strength: f64, layers: &Range<i64>, num_ws: i64) -> Result<Tensor> {
        let (count, w_dim) = self.directions.size2()?;
        ensure!(
            (0..count).contains(&index),
            "cannot walk along direction {index}: the file has the directions 0 to {}",
            count - 1
        );
        let step = self.directions.get(index) * (strength * self.deviations.double_value(&[index]));
        let shift = Tensor::zeros([num_ws, w_dim], (Kind::Float, self.directions.device()));
        shift.narrow(0, layers.start, layers.end - layers.start).copy_(&step);
        Ok(shift)
    }

    /// Writes a file, which appears whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let named = [(DIRECTIONS, &self.directions), (STRENGTHS, &self.strengths), (DEVIATIONS, &self.deviations)];
        let named = named.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()));
        weights::write_tensors(path, &named, self.metadata.clone())
    }

    /// Reads a file for a generator with w of width `w_dim`.
    ///
    /// # Errors
    /// The file holds no directions, or those of another width.
    pub fn load(path: &Path, w_dim: i64) -> Result<Self> {
        let file = weights::read(path)?;
        let shown = path.display();
        let tensor = |name: &str| {
            let found = file.tensors.iter().find(|(found, _)| found == name);
            let tensor = found.map(|(_, tensor)| tensor.shallow_clone());
            tensor.with_context(|| {
                format!("cannot use the directions of '{shown}': it has no '{name}'; make it with rootgan directions")
            })
        };
        let (directions, strengths, deviations) = (tensor(DIRECTIONS)?, tensor(STRENGTHS)?, tensor(DEVIATIONS)?);
        let size = directions.size();
        ensure!(
            size.len() == 2 && size[0] > 0 && size[1] == w_dim,
            "cannot use the directions of '{shown}': they have shape {size:?}, [K, {w_dim}] is expected; they belong to another \
             generator"
        );
        for (name, numbers) in [(STRENGTHS, &strengths), (DEVIATIONS, &deviations)] {
            let found = numbers.size();
            ensure!(
                found == size[..1],
                "cannot use the directions of '{shown}': '{name}' has shape {found:?}, {:?} is expected; make the file again \
                 with rootgan directions",
                &size[..1]
            );
        }
        let finite = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) == 1;
        if ![&directions, &strengths, &deviations].into_iter().all(finite) {
            bail!("cannot use the directions of '{shown}': not all of them are finite; make the file again");
        }
        Ok(Self {
            directions: directions.to_kind(Kind::Float),
            strengths: strengths.to_kind(Kind::Double),
            deviations: deviations.to_kind(Kind::Double),
            metadata: file.metadata,
        })
    }
}

/// Factorises affine layers: the unit vectors n that make `|A n|^2` largest, which are the eigenvectors of `A^T A`, all
/// layers stacked to one A.
///
/// # Shapes
/// `affines`: one A [styles, w_dim] per layer, as they act -> directions [count, w_dim] and eigenvalues [count], float64.
///
/// # Source
/// Shen and Zhou, arXiv 2007.06600, section 3.2.
///
/// # Errors
/// There is no layer.
pub fn sefa(affines: &[Tensor], count: i64) -> Result<(Tensor, Tensor)> {
    ensure!(!affines.is_empty(), "cannot factorise no layers; pass --layers with a convolution among them");
    let products = affines.iter().map(|affine| {
        let affine = affine.to_kind(Kind::Double);
        affine.tr().matmul(&affine)
    });
    Ok(strongest(&products.sum(), count))
}

/// Finds the principal components of w, by the covariance in float64, divided by N.
///
/// # Shapes
/// `w` [N, w_dim] -> directions [count, w_dim] and variances [count], float64.
///
/// # Source
/// Härkönen et al., GANSpace, arXiv 2004.02546, section 2.
pub fn pca(w: &Tensor, count: i64) -> (Tensor, Tensor) {
    let centred = centred(w);
    strongest(&(centred.tr().matmul(&centred) / w.size()[0] as f64), count)
}

/// Returns the weights of the affine layers of convolutions that read the rows `rows` of ws, each as it acts: with the gain
/// 1 / sqrt(w_dim) of the equalised learning rate. Layers that make RGB are left out, as they colour alone; the last row
/// is read by such a layer only.
///
/// # Errors
/// The generator names its parameters otherwise, or no convolution reads these rows.
pub fn style_affines(generator: &Generator, rows: &Range<i64>) -> Result<Vec<Tensor>> {
    let path = generator.script.path.display();
    let mut affines = Vec::new();
    for row in rows.clone() {
        let name = affine_name(row);
        let found = generator.script.parameters.iter().find(|parameter| parameter.name == name);
        if let Some(weight) = found.map(|parameter| parameter.tensor.detach()) {
            let gain = 1.0 / (weight.size2()?.1 as f64).sqrt();
            affines.push(weight.to_device(tch::Device::Cpu).to_kind(Kind::Double) * gain);
        }
    }
    ensure!(
        !affines.is_empty(),
        "cannot factorise the layers {} to {} of '{path}': no parameter is called {}; pass other --layers, or --method pca",
        rows.start,
        rows.end - 1,
        affine_name(rows.start)
    );
    Ok(affines)
}

/// Returns the name of the affine weight of the convolution that reads a row of ws: row 0 is that of 4x4, and then every
/// resolution has two.
fn affine_name(row: i64) -> String {
    let (doublings, conv) = ((row + 1) / 2, (row + 1) % 2);
    match row {
        0 => "synthesis.b4.conv1.affine.weight".to_owned(),
        _ => format!("synthesis.b{}.conv{conv}.affine.weight", 4i64 << doublings),
    }
}

fn centred(w: &Tensor) -> Tensor {
    let w = w.to_kind(Kind::Double);
    &w - w.mean_dim([0i64].as_slice(), true, Kind::Double)
}

/// Returns the eigenvectors of a symmetric matrix as rows, of the largest eigenvalues first, and the eigenvalues. An
/// eigenvector's sign is arbitrary; here the component that is largest without its sign is positive.
fn strongest(matrix: &Tensor, count: i64) -> (Tensor, Tensor) {
    let (values, vectors) = matrix.linalg_eigh("L");
    let rows = vectors.tr().flip([0i64]).narrow(0, 0, count);
    let largest = rows.gather(1, &rows.abs().argmax(1, true), false);
    let values = values.flip([0i64]).narrow(0, 0, count).clamp_min(0.0);
    ((rows * largest.sign()).contiguous(), values.contiguous())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Numbers around 1 in float64, through an eigenvalue decomposition.
    const ROUNDING: f64 = 1e-9;

    fn furthest(a: &Tensor, b: &[f64]) -> f64 {
        (a.view([-1]) - Tensor::from_slice(b)).abs().max().double_value(&[])
    }

    /// A^T A = diag(9, 0, 4) + diag(0, 25, 0): the axes 1, 0 and 2, of 25, 9 and 4.
    #[test]
    fn sefa_finds_the_axes_of_stacked_layers() {
        let one = Tensor::from_slice(&[0f32, 0.0, 2.0, -3.0, 0.0, 0.0]).view([2, 3]);
        let other = Tensor::from_slice(&[0f32, -5.0, 0.0]).view([1, 3]);
        let (directions, strengths) = sefa(&[one, other], 3).unwrap();
        assert!(furthest(&directions, &[0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]) < ROUNDING);
        assert!(furthest(&strengths, &[25.0, 9.0, 4.0]) < ROUNDING);
        assert!(sefa(&[], 1).is_err());
    }

    /// Points at -2, -1, 1, 2 times (3, -4) from (10, 20) vary by (4 + 1 + 1 + 4) / 4 * 25 along (-3, 4) / 5.
    #[test]
    fn pca_finds_the_line_that_points_lie_on() {
        let along = Tensor::from_slice(&[-2f64, -1.0, 1.0, 2.0]).view([4, 1]);
        let w = along * Tensor::from_slice(&[3f64, -4.0]) + Tensor::from_slice(&[10f64, 20.0]);
        let (directions, variances) = pca(&w, 2);
        assert!(furthest(&directions.get(0), &[-0.6, 0.8]) < ROUNDING);
        assert!(furthest(&variances, &[62.5, 0.0]) < ROUNDING);
        let found = Directions::find(Method::Pca, &w, &[], 2).unwrap();
        assert!(furthest(&found.deviations, &[62.5f64.sqrt(), 0.0]) < 1e-6);
    }

    #[test]
    fn the_largest_component_of_every_direction_is_positive() {
        tch::manual_seed(3);
        let (directions, strengths) = pca(&Tensor::randn([50, 7], (Kind::Float, Device::Cpu)), 7);
        let largest = directions.gather(1, &directions.abs().argmax(1, true), false);
        assert!(largest.min().double_value(&[]) > 0.0);
        let falls = strengths.narrow(0, 0, 6) - strengths.narrow(0, 1, 6);
        assert!(falls.min().double_value(&[]) >= 0.0);
    }

    /// The names of the affine layers of a 16x16 generator, in the order in which they read ws.
    #[test]
    fn rows_of_ws_have_their_convolutions() {
        let names: Vec<String> = (0..5).map(affine_name).collect();
        let expected = ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"];
        assert_eq!(names, expected.map(|layer| format!("synthesis.{layer}.affine.weight")));
    }

    fn directions() -> Directions {
        let w = Tensor::from_slice(&[1f32, 0.0, -1.0, 0.0, 0.0, 2.0, 0.0, -2.0]).view([4, 2]);
        let mut found = Directions::find(Method::Pca, &w, &[], 2).unwrap();
        found.metadata.insert("method".to_owned(), "pca".to_owned());
        found
    }

    #[test]
    fn a_step_is_a_standard_deviation_on_the_chosen_layers_alone() {
        let shift = directions().shift(0, -3.0, &(1..3), 4).unwrap();
        // The second axis has the variance (4 + 4) / 4 = 2.
        let step = -3.0 * 2f64.sqrt();
        assert!(furthest(&shift, &[0.0, 0.0, 0.0, step, 0.0, step, 0.0, 0.0]) < 1e-6);
        let message = directions().shift(2, 1.0, &(0..1), 4).unwrap_err().to_string();
        assert!(message.contains("0 to 1"), "{message}");
    }

    #[test]
    fn a_file_reads_back_and_another_generators_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.safetensors");
        let written = directions();
        written.save(&path).unwrap();
        let read = Directions::load(&path, 2).unwrap();
        assert!(read.directions.equal(&written.directions) && read.deviations.equal(&written.deviations));
        assert_eq!(read.metadata["method"], "pca");
        assert!(Directions::load(&path, 3).unwrap_err().to_string().contains("another generator"));
        weights::write_tensors(&path, &[("w".to_owned(), Tensor::from_slice(&[1f32]))], HashMap::new()).unwrap();
        assert!(Directions::load(&path, 2).unwrap_err().to_string().contains("no 'directions'"));
        let message = Directions::find(Method::Pca, &Tensor::zeros([4, 2], (Kind::Float, Device::Cpu)), &[], 3);
        assert!(message.unwrap_err().to_string().contains("1 to 2"));
    }
}
