//! Second derivatives of convolutions against libtorch's own, in float64. One test, as the choice is the process's.

use rootgan::tensor::derivatives::{ConvolutionDerivatives, use_convolution_derivatives};
use tch::{Device, Kind, Tensor};

/// One kind of convolution.
struct Case {
    name: &'static str,
    input: [i64; 4],
    kernel: [i64; 4],
    stride: i64,
    padding: i64,
    groups: i64,
    transposed: bool,
    bias: i64,
}

const CASES: [Case; 9] = [
    case("3x3", [2, 4, 7, 6], [5, 4, 3, 3], 1, 1, 1, false, 5),
    case("3x3 with stride", [2, 4, 8, 7], [5, 4, 3, 3], 2, 1, 1, false, 5),
    case("1x1", [2, 4, 5, 5], [3, 4, 1, 1], 1, 0, 1, false, 3),
    case("1x1 with stride", [2, 4, 6, 5], [3, 4, 1, 1], 2, 0, 1, false, 0),
    case("grouped", [2, 6, 6, 6], [4, 3, 3, 3], 1, 1, 2, false, 4),
    case("a filter of every channel", [2, 5, 9, 8], [5, 1, 4, 4], 1, 2, 5, false, 0),
    case("a filter of every channel with stride", [2, 5, 9, 8], [5, 1, 4, 4], 2, 1, 5, false, 0),
    case("transposed", [2, 4, 5, 4], [4, 3, 3, 3], 2, 0, 1, true, 3),
    case("transposed, of every channel", [2, 5, 4, 4], [5, 1, 4, 4], 2, 1, 5, true, 0),
];

#[allow(clippy::too_many_arguments)] // A table.
const fn case(
    name: &'static str,
    input: [i64; 4],
    kernel: [i64; 4],
    stride: i64,
    padding: i64,
    groups: i64,
    transposed: bool,
    bias: i64,
) -> Case {
    Case { name, input, kernel, stride, padding, groups, transposed, bias }
}

fn drawn(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Double, Device::Cpu))
}

/// Derivatives of the first to the third order with respect to input, kernel and bias, mixed by random directions.
fn derivatives(case: &Case) -> Vec<Tensor> {
    tch::manual_seed(7);
    let leaf = |shape: &[i64]| drawn(shape).set_requires_grad(true);
    let mut leaves = vec![leaf(&case.input), leaf(&case.kernel)];
    if case.bias > 0 {
        leaves.push(leaf(&[case.bias]));
    }
    let (stride, padding) = ([case.stride; 2], [case.padding; 2]);
    let y =
        leaves[0].convolution(&leaves[1], leaves.get(2), stride, padding, [1, 1], case.transposed, [0, 0], case.groups);
    // Not linear, so that no order's derivative vanishes.
    let mut value = (&y * drawn(&y.size())).sin().sum(Kind::Double);
    let mut found = vec![y];
    for order in 1..=3 {
        let gradients = Tensor::run_backward(&[&value], &leaves, true, order < 3);
        let defined: Vec<Tensor> = gradients.into_iter().filter(Tensor::defined).collect();
        let products = defined.iter().map(|gradient| (gradient * drawn(&gradient.size())).sum(Kind::Double));
        value = products.reduce(|sum, product| sum + product).expect("something depends on the leaves");
        found.extend(defined);
    }
    found
}

#[test]
fn derivatives_of_three_orders_are_those_of_libtorch() {
    // The first is libtorch's own before anything was chosen.
    let expected: Vec<Vec<Tensor>> = CASES.iter().map(derivatives).collect();
    assert!(use_convolution_derivatives(ConvolutionDerivatives::SameSize));
    // Every thread that sets libtorch up chooses it again, while others compute.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..20).for_each(|_| drop(derivatives(&CASES[0]))));
        }
        (0..10_000).for_each(|_| assert!(use_convolution_derivatives(ConvolutionDerivatives::SameSize)));
    });
    let found: Vec<Vec<Tensor>> = CASES.iter().map(derivatives).collect();
    for (case, (expected, found)) in CASES.iter().zip(expected.iter().zip(&found)) {
        assert_eq!(expected.len(), found.len(), "{}", case.name);
        for (place, (usual, own)) in expected.iter().zip(found).enumerate() {
            let scale = usual.abs().max().double_value(&[]).max(1.0);
            let error = (usual - own).abs().max().double_value(&[]);
            assert!(error <= 1e-12 * scale, "{}: tensor {place} differs by {error:e} of {scale:e}", case.name);
        }
    }
    let pairs = expected.iter().flatten().zip(found.iter().flatten());
    assert!(pairs.into_iter().any(|(usual, own)| usual != own), "not a bit differs, so libtorch's own were used");
    assert!(use_convolution_derivatives(ConvolutionDerivatives::Libtorch));
    let again = derivatives(&CASES[0]);
    assert!(again.iter().zip(&expected[0]).all(|(again, usual)| again == usual), "libtorch's own come back");
}
