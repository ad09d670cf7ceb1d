//! The two classifiers of 8x8 digits: a fully connected network and a transformer.

use tch::nn::{self, Module};
use tch::{Kind, Tensor};

/// Names one of the classifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Fully connected, 64-128-128-10 with ReLU.
    Mlp,
    /// A transformer over the 16 patches of 2x2: width 32, 2 blocks of 4 heads, pre-norm, mean over the patches.
    Transformer,
}

const CLASSES: i64 = 10;
const SIDE: i64 = 8;
const PATCH: i64 = 2;
const TOKENS: i64 = (SIDE / PATCH) * (SIDE / PATCH);
const WIDTH: i64 = 32;
const HEADS: i64 = 4;
const BLOCKS: i64 = 2;

impl Network {
    /// Returns the name for file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mlp => "mlp",
            Self::Transformer => "transformer",
        }
    }

    /// Returns the name for titles.
    pub fn title(self) -> &'static str {
        match self {
            Self::Mlp => "fully connected",
            Self::Transformer => "transformer",
        }
    }

    /// Builds the network with fresh weights from libtorch's generator: images [n, 64] -> logits [n, 10].
    pub fn build(self, vs: &nn::Path) -> Box<dyn Module> {
        match self {
            Self::Mlp => Box::new(mlp(vs, &[SIDE * SIDE, 128, 128, CLASSES])),
            Self::Transformer => Box::new(transformer(vs)),
        }
    }
}

fn mlp(vs: &nn::Path, widths: &[i64]) -> nn::Sequential {
    let mut layers = nn::seq();
    for (index, pair) in widths.windows(2).enumerate() {
        if index > 0 {
            layers = layers.add_fn(Tensor::relu);
        }
        layers = layers.add(nn::linear(vs / index, pair[0], pair[1], nn::LinearConfig::default()));
    }
    layers
}

fn transformer(vs: &nn::Path) -> nn::Sequential {
    let embed = nn::linear(vs / "embed", PATCH * PATCH, WIDTH, nn::LinearConfig::default());
    let place = vs.var("place", &[TOKENS, WIDTH], nn::Init::Randn { mean: 0.0, stdev: 0.1 });
    let mut layers = nn::seq().add_fn(move |images| embed.forward(&patches(images)) + &place);
    for index in 0..BLOCKS {
        let block = &(vs / "block" / index);
        let attention = attention(&(block / "attention"));
        let feed = mlp(&(block / "feed"), &[WIDTH, 2 * WIDTH, WIDTH]);
        layers = layers.add(residual(&(block / "norm1"), attention)).add(residual(&(block / "norm2"), feed));
    }
    let norm = norm(&(vs / "norm"));
    let head = nn::linear(vs / "head", WIDTH, CLASSES, nn::LinearConfig::default());
    layers.add_fn(move |x| head.forward(&norm.forward(x).mean_dim(1, false, None::<Kind>)))
}

/// Cuts images into patches, [n, 64] -> [n, 16, 4].
fn patches(images: &Tensor) -> Tensor {
    let per_side = SIDE / PATCH;
    let cut = images.view([-1, per_side, PATCH, per_side, PATCH]).permute([0, 1, 3, 2, 4]);
    cut.reshape([-1, TOKENS, PATCH * PATCH])
}

fn norm(vs: &nn::Path) -> nn::LayerNorm {
    nn::layer_norm(vs, vec![WIDTH], nn::LayerNormConfig::default())
}

/// Makes the layer `x + inner(norm(x))`.
fn residual(vs: &nn::Path, inner: impl Module + 'static) -> impl Module + 'static {
    let norm = norm(vs);
    nn::func(move |x| x + inner.forward(&norm.forward(x)))
}

/// Makes a self-attention layer, [n, tokens, width] -> the same.
fn attention(vs: &nn::Path) -> impl Module + 'static {
    let project = nn::linear(vs / "qkv", WIDTH, 3 * WIDTH, nn::LinearConfig::default());
    let mix = nn::linear(vs / "mix", WIDTH, WIDTH, nn::LinearConfig::default());
    nn::func(move |x| {
        let heads = project.forward(x).view([-1, TOKENS, 3, HEADS, WIDTH / HEADS]).permute([2, 0, 3, 1, 4]);
        let (q, k, v) = (heads.get(0), heads.get(1), heads.get(2));
        let scores = q.matmul(&k.transpose(-2, -1)) * ((WIDTH / HEADS) as f64).powf(-0.5);
        let seen = scores.softmax(-1, None::<Kind>).matmul(&v);
        mix.forward(&seen.transpose(1, 2).reshape([-1, TOKENS, WIDTH]))
    })
}
