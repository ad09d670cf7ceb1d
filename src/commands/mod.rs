//! One file per subcommand: its flags, and what it does with the layers below.

pub mod bench;
pub mod compare;
pub mod confine;
pub mod dataset;
pub mod devices;
pub mod dump;
pub mod export;
pub mod finetune;
pub mod generate;
pub mod inspect;
pub mod metrics;
pub mod pictures;
pub mod plot;
pub mod source;
