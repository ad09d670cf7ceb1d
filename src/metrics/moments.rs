//! Mean and covariance of features, added up batch by batch in float64, so that the features need not be kept.

use tch::{Device, Kind, Tensor};

/// Raw moments of N features: `sum x` and `sum x x^T`.
///
/// The covariance is `E[x x^T] - mu mu^T`, divided by N as the StyleGAN tools do, not by N - 1.
///
/// # Source
/// Heusel et al., arXiv 1706.08500, section 4.
pub struct Moments {
    /// The number N of features.
    pub count: i64,
    /// Sum of x, [F] in float64.
    pub sum: Tensor,
    /// Sum of x x^T, [F, F] in float64.
    pub outer: Tensor,
}

impl Moments {
    /// Begins without features, for `width` numbers each.
    pub fn new(width: i64, device: Device) -> Self {
        let options = (Kind::Double, device);
        Self { count: 0, sum: Tensor::zeros([width], options), outer: Tensor::zeros([width, width], options) }
    }

    /// Takes the moments of all rows of a tensor.
    pub fn from_features(features: &Tensor) -> Self {
        let mut moments = Self::new(features.size()[1], features.device());
        moments.add(features);
        moments
    }

    /// Returns F, the numbers of one feature.
    pub fn width(&self) -> i64 {
        self.sum.size()[0]
    }

    /// Adds a batch of features.
    ///
    /// # Shapes
    /// features [n, F] of any float type.
    pub fn add(&mut self, features: &Tensor) {
        let x = features.to_kind(Kind::Double);
        self.count += x.size()[0];
        let _ = self.sum.g_add_(&x.sum_dim_intlist([0i64].as_slice(), false, Kind::Double));
        // addmm_ takes one pass over [F, F], where a product and a sum would take two.
        let _ = self.outer.addmm_(&x.tr(), &x);
    }

    /// Returns the mean mu, [F].
    pub fn mean(&self) -> Tensor {
        &self.sum / self.count as f64
    }

    /// Returns the covariance E[x x^T] - mu mu^T, [F, F], exactly symmetric.
    pub fn covariance(&self) -> Tensor {
        let mean = self.mean();
        let covariance = &self.outer / self.count as f64 - mean.outer(&mean);
        (&covariance + covariance.tr()) * 0.5
    }

    /// Returns the same moments on another device.
    pub fn to_device(&self, device: Device) -> Self {
        Self { count: self.count, sum: self.sum.to_device(device), outer: self.outer.to_device(device) }
    }

    /// Returns a copy that further batches leave alone.
    pub fn copy(&self) -> Self {
        Self { count: self.count, sum: self.sum.copy(), outer: self.outer.copy() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_points_of_a_cross_have_half_the_squared_radius_as_variance() {
        let cross = Tensor::from_slice(&[3f32, 5.0, -1.0, 5.0, 1.0, 7.0, 1.0, 3.0]).view([4, 2]);
        let moments = Moments::from_features(&cross);
        assert_eq!(Vec::<f64>::try_from(moments.mean()).unwrap(), [1.0, 5.0]);
        assert_eq!(Vec::<f64>::try_from(moments.covariance().view([-1])).unwrap(), [2.0, 0.0, 0.0, 2.0]);
    }

    #[test]
    fn batches_add_up_to_the_whole() {
        let x = Tensor::randn([7, 3], (Kind::Double, Device::Cpu));
        let whole = Moments::from_features(&x);
        let mut parts = Moments::new(3, Device::Cpu);
        parts.add(&x.narrow(0, 0, 4));
        let early = parts.copy();
        parts.add(&x.narrow(0, 4, 3));
        assert_eq!((early.count, parts.count), (4, 7));
        assert!((parts.covariance() - whole.covariance()).abs().max().double_value(&[]) < 1e-14);
    }
}
