//! Networks as TorchScript files (the contract of weights/README.md): whether a file is safe to load, generators and
//! discriminators, the flat parameter buffers that optimiser and EMA work on, what is frozen, and weights and their
//! provenance. The architecture is in the file; training is in `train`.

mod contract;
mod discriminator;
mod file_kind;
mod flat;
mod freeze;
mod generator;
mod module;
mod pair;
mod precision;
mod probe;
pub mod provenance;
pub mod safety;
mod script;
pub mod weights;

#[doc(hidden)]
pub use contract::parse as parse_description;
pub use contract::{DiscriminatorSpec, GeneratorSpec};
pub use discriminator::Discriminator;
pub use file_kind::{FileKind, begins_as_page};
pub use flat::FlatParameters;
pub use freeze::{FreezeSettings, freeze_discriminator, freeze_generator, resolution_of as block_resolution};
pub use generator::{Generator, NoiseMode, Truncation, ZOnlySpec};
pub use pair::check_pair;
pub use precision::{Precision, PrecisionKind};
pub use probe::probe_numbers;
pub use script::{Parameter, ScriptModule, read_contents};
