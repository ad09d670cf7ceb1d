//! Style mixing: ws that take some layers from one latent and the others from another.

use std::ops::Range;

use tch::Tensor;

/// Mixes every row latent with every column latent: the layers `layers` come from the column, the others from the row.
///
/// # Shapes
/// `rows` [R, num_ws, w_dim], `columns` [C, num_ws, w_dim] -> [R, C, num_ws, w_dim].
///
/// # Source
/// Karras et al., arXiv 1812.04948, section 3.1 and figure 3, where the column is called source B.
pub fn mixed(rows: &Tensor, columns: &Tensor, layers: &Range<i64>) -> Tensor {
    let ws = rows.unsqueeze(1).repeat([1, columns.size()[0], 1, 1]);
    let count = layers.end - layers.start;
    ws.narrow(2, layers.start, count).copy_(&columns.narrow(1, layers.start, count).unsqueeze(0));
    ws
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn the_chosen_layers_are_the_columns_and_the_others_the_rows() {
        let all = |first: i64, n: i64| {
            let numbers = Tensor::arange_start(first, first + n, (Kind::Float, Device::Cpu));
            numbers.view([n, 1, 1]).repeat([1, 6, 2])
        };
        let ws = mixed(&all(0, 2), &all(10, 3), &(1..4));
        assert_eq!(ws.size(), [2, 3, 6, 2]);
        for row in 0..2 {
            for column in 0..3 {
                let layers = Vec::<f32>::try_from(ws.get(row).get(column).select(1, 1).contiguous()).unwrap();
                let (own, other) = (row as f32, 10.0 + column as f32);
                assert_eq!(layers, [own, other, other, other, own, own]);
            }
        }
    }
}
