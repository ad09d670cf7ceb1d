//! Files of ws: `.npz` with the array `w` [N, num_ws, w_dim] in float32, as NVIDIA's projector writes them with N = 1.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

use crate::files::npz::{floats_as_npz, read_floats, write_floats};
use crate::latent::w_samples::sizes_of_ws;
use crate::model::Generator;

/// Name of the array in the archive.
const ARRAY: &str = "w";

/// Reads ws [N, num_ws, w_dim] for a generator of these sizes.
///
/// # Errors
/// The file has no array `w` of float32, one of another shape, or a value that is not finite.
pub fn read(path: &Path, num_ws: i64, w_dim: i64) -> Result<Tensor> {
    let (shape, values) = read_floats(path, ARRAY)?;
    ensure!(
        shape.len() == 3 && shape[0] > 0 && shape[1] == num_ws as u64 && shape[2] == w_dim as u64,
        "cannot use the ws of '{}': w has shape {shape:?}, [N, {num_ws}, {w_dim}] is expected; they belong to another generator",
        path.display()
    );
    ensure!(
        values.iter().all(|value| value.is_finite()),
        "cannot use the ws of '{}': not all of them are finite; project again",
        path.display()
    );
    Ok(Tensor::from_slice(&values).view([shape[0] as i64, num_ws, w_dim]))
}

/// Reads ws [N, num_ws, w_dim] for this generator.
///
/// # Errors
/// The errors of [`read`], or the generator only takes z.
pub fn read_for(path: &Path, generator: &Generator) -> Result<Tensor> {
    let (num_ws, w_dim) = sizes_of_ws(generator)?;
    read(path, num_ws, w_dim)
}

/// Writes ws [N, num_ws, w_dim]; the file appears whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, ws: &Tensor) -> Result<()> {
    let (shape, values) = numbers_of(ws)?;
    write_floats(path, ARRAY, &shape, &values)
}

/// Returns the bytes of such a file.
///
/// # Errors
/// The ws cannot be copied from their device.
pub fn to_bytes(ws: &Tensor) -> Result<Vec<u8>> {
    let (shape, values) = numbers_of(ws)?;
    floats_as_npz(ARRAY, &shape, &values)
}

fn numbers_of(ws: &Tensor) -> Result<(Vec<u64>, Vec<f32>)> {
    let flat = ws.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
    let values = Vec::<f32>::try_from(flat).context("cannot read the ws from their device")?;
    Ok((ws.size().iter().map(|&size| size as u64).collect(), values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(shape: [i64; 3]) -> Tensor {
        (Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)) / 7.0).view(shape)
    }

    #[test]
    fn ws_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.npz");
        let ws = numbers([2, 6, 4]);
        write(&path, &ws).unwrap();
        assert!(read(&path, 6, 4).unwrap().equal(&ws));
    }

    #[test]
    fn ws_of_another_generator_are_refused_with_both_shapes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.npz");
        write(&path, &numbers([1, 6, 4])).unwrap();
        for (num_ws, w_dim) in [(8, 4), (6, 5)] {
            let message = read(&path, num_ws, w_dim).unwrap_err().to_string();
            assert!(message.contains("[1, 6, 4]") && message.contains(&format!("[N, {num_ws}, {w_dim}]")), "{message}");
        }
        write(&path, &(numbers([1, 6, 4]) * f64::NAN)).unwrap();
        assert!(read(&path, 6, 4).unwrap_err().to_string().contains("finite"));
    }
}
