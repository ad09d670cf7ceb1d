//! The processes that train together, over libtorch's c10d: they meet at a TCPStore and send each other tensors by gloo or
//! NCCL.
//!
//! torchrun, or whatever starts the processes, says by environment variables who is who (`RANK`, `WORLD_SIZE`,
//! `LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT`, `TORCHELASTIC_*`). Tensors on a GPU go by NCCL, or by way of the host where the
//! build found no headers of NCCL.

use std::cell::Cell;
use std::env;
use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tch::{Device, Kind, Tensor};

use super::c10d::{Group, Meeting};
use super::no_grad;

/// The longest that a process waits for another one in a sum. A process that ends is noticed at once, because its
/// connections close; this is for the first process, whose metrics may take hours.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The place of this process among those that were started together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessPlace {
    /// Number of this process, 0 to `size` - 1; 0 leads.
    pub rank: u64,
    /// Number of processes.
    pub size: u64,
    /// Number of this process among those of its machine, which is the number of its GPU too.
    pub local_rank: u64,
    /// How often torchrun has started the processes again.
    pub restarts: u64,
    /// Name or address of the machine of the store, and the port.
    pub master: (String, u16),
    /// Whether torchrun serves the store itself.
    pub agent_serves: bool,
}

impl ProcessPlace {
    /// Reads the environment; None where `WORLD_SIZE` is not set.
    ///
    /// # Errors
    /// A variable that belongs to it is missing, or is no number in its range.
    pub fn from_env() -> Result<Option<Self>> {
        Self::read(|name| env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let Some(size) = variable("WORLD_SIZE") else {
            return Ok(None);
        };
        let text = |name: &str| {
            variable(name).with_context(|| {
                format!("WORLD_SIZE is set to {size}, but {name} is not; start the processes with torchrun, or unset WORLD_SIZE")
            })
        };
        let number = |name: &str, text: &str, range: std::ops::RangeInclusive<u64>| -> Result<u64> {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.with_context(|| format!("{name} must be from {} to {}, not '{text}'", range.start(), range.end()))
        };
        let size = number("WORLD_SIZE", &size, 1..=65_536)?;
        let rank = number("RANK", &text("RANK")?, 0..=size - 1)?;
        let local_rank = match variable("LOCAL_RANK") {
            Some(text) => number("LOCAL_RANK", &text, 0..=size - 1)?,
            None => rank,
        };
        let restarts = variable("TORCHELASTIC_RESTART_COUNT").and_then(|text| text.parse().ok()).unwrap_or(0);
        let master = match size {
            1 => (String::new(), 0),
            _ => (text("MASTER_ADDR")?, number("MASTER_PORT", &text("MASTER_PORT")?, 1..=65_535)? as u16),
        };
        let agent_serves = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|text| text == "True");
        Ok(Some(Self { rank, size, local_rank, restarts, master, agent_serves }))
    }
}

/// The processes that train together; a process by itself is a world of size 1, in which nothing is sent.
#[derive(Debug)]
pub struct World {
    rank: u64,
    size: u64,
    /// The connections to the others; None in a world of size 1.
    group: Option<Group>,
    traffic: Cell<Traffic>,
}

/// Returns a port of this machine that is free now; another program may take it in the next moment.
///
/// # Errors
/// No port is free.
pub fn free_port() -> Result<u16> {
    let address = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr());
    Ok(address.context("no port is free")?.port())
}

/// What was sent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of the tensors that were summed or copied.
    pub bytes: u64,
    /// Number of sums and copies.
    pub calls: u64,
    /// Time in them, waiting for the others included.
    pub time: Duration,
}

impl World {
    /// Makes the world of one process.
    pub fn alone() -> Self {
        Self { rank: 0, size: 1, group: None, traffic: Cell::default() }
    }

    /// Joins the other processes, and waits at most `timeout` for them. A process by itself connects to nobody.
    ///
    /// # Errors
    /// They do not come, or the network does not let them reach each other.
    pub fn join(place: &ProcessPlace, timeout: Duration) -> Result<Self> {
        match place.size {
            1 => Ok(Self::alone()),
            _ => Self::connect(place, timeout),
        }
    }

    /// Makes the world of this process alone with all that several would use, which then sums over one. For trying out
    /// whether gloo and NCCL work here.
    ///
    /// # Errors
    /// No port is free, or gloo finds no network interface.
    pub fn connected_to_itself() -> Result<Self> {
        let master = ("127.0.0.1".to_owned(), free_port()?);
        let place = ProcessPlace { rank: 0, size: 1, local_rank: 0, restarts: 0, master, agent_serves: false };
        Self::connect(&place, Duration::from_secs(60))
    }

    /// Whether tensors of GPUs are sent by NCCL.
    pub fn has_nccl() -> bool {
        Group::takes_gpu_tensors()
    }

    fn connect(place: &ProcessPlace, timeout: Duration) -> Result<Self> {
        let (host, port) = &place.master;
        let context = || {
            format!(
                "process {} of {} cannot reach the others by {host}:{port}; do all of them run, and can the machines reach each \
                 other (GLOO_SOCKET_IFNAME names the network interface to use)?",
                place.rank, place.size
            )
        };
        // Each start has names of its own in the store that torchrun keeps over restarts.
        let prefix = match place.agent_serves {
            true => format!("/worker/attempt_{}", place.restarts),
            false => "/rootgan".to_owned(),
        };
        let interface = env::var("GLOO_SOCKET_IFNAME").unwrap_or_default();
        let address = own_address(host, *port).with_context(context)?;
        let meeting = Meeting {
            store: (host, *port),
            serves: place.rank == 0 && !place.agent_serves,
            prefix: &prefix,
            rank: place.rank,
            size: place.size,
            interface: &interface,
            address: &address,
            join_timeout: timeout,
            timeout: LONGEST_WAIT,
        };
        let group = Some(Group::join(&meeting).with_context(context)?);
        Ok(Self { rank: place.rank, size: place.size, group, traffic: Cell::default() })
    }

    /// Returns the number of this process, 0 to `size` - 1.
    pub fn rank(&self) -> u64 {
        self.rank
    }

    /// Returns the number of processes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether this process leads the others.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Returns what was sent so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic.get()
    }

    /// Sums a tensor in place over all processes, to the same bits in each.
    ///
    /// # Errors
    /// Another process has left.
    pub fn sum_(&self, tensor: &Tensor) -> Result<()> {
        self.exchange(tensor, Group::sum)
    }

    /// Copies the tensor of process `root` into those of the others, which have the same shape and kind.
    ///
    /// # Errors
    /// Another process has left.
    pub fn broadcast_(&self, tensor: &Tensor, root: u64) -> Result<()> {
        self.exchange(tensor, |group, tensor| group.broadcast(tensor, root))
    }

    /// Returns the bytes of every process, by rank; they may be of different lengths.
    ///
    /// # Errors
    /// Another process has left.
    pub fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        if self.size == 1 {
            return Ok(vec![bytes.to_vec()]);
        }
        (0..self.size).map(|root| self.share(bytes, root)).collect()
    }

    /// Returns the bytes of process `root` in every process.
    ///
    /// # Errors
    /// Another process has left.
    pub fn share(&self, bytes: &[u8], root: u64) -> Result<Vec<u8>> {
        if self.size == 1 {
            return Ok(bytes.to_vec());
        }
        let length = Tensor::from_slice(&[bytes.len() as i64]);
        self.broadcast_(&length, root)?;
        let length = length.int64_value(&[0]);
        if length == 0 {
            return Ok(Vec::new());
        }
        let shared = match self.rank == root {
            true => Tensor::from_slice(bytes),
            false => Tensor::zeros([length], (Kind::Uint8, Device::Cpu)),
        };
        self.broadcast_(&shared, root)?;
        Ok(super::images::bytes(&shared))
    }

    /// Lets `call` exchange a tensor with the other processes; one that is not in one piece, or on a GPU without NCCL, by way
    /// of a copy.
    fn exchange(&self, tensor: &Tensor, call: impl Fn(&Group, &Tensor) -> Result<()>) -> Result<()> {
        let Some(group) = self.group.as_ref().filter(|_| tensor.numel() > 0) else {
            return Ok(());
        };
        let begun = Instant::now();
        let own = tensor.detach();
        let device = if Self::has_nccl() { own.device() } else { Device::Cpu };
        let sent = own.to_device(device).contiguous();
        call(group, &sent)
            .map_err(|error| anyhow!("another process has left; its own message says why ({error:#})"))?;
        if sent.data_ptr() != own.data_ptr() {
            no_grad(|| own.shallow_clone().f_copy_(&sent))?;
        }
        let mut traffic = self.traffic.get();
        traffic.bytes += (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        traffic.calls += 1;
        traffic.time += begun.elapsed();
        self.traffic.set(traffic);
        Ok(())
    }
}

/// Returns the address by which this machine reaches another one, which is where that one reaches it, too.
fn own_address(host: &str, port: u16) -> Result<String> {
    // Nothing is sent: connecting a UDP socket only looks the way up.
    let ways = [("0.0.0.0:0"), ("[::]:0")].map(|any| {
        let socket = UdpSocket::bind(any)?;
        socket.connect((host, port))?;
        socket.local_addr()
    });
    let [first, second] = ways;
    Ok(first.or(second)?.ip().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<ProcessPlace>> {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ProcessPlace::read(|name| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn the_place_is_read_as_torchrun_sets_it() {
        assert_eq!(read(&[("RANK", "1")]).unwrap(), None);
        let all = [
            ("RANK", "3"),
            ("WORLD_SIZE", "4"),
            ("LOCAL_RANK", "1"),
            ("MASTER_ADDR", "node7"),
            ("MASTER_PORT", "29500"),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
        ];
        let place = read(&all).unwrap().unwrap();
        assert_eq!((place.rank, place.size, place.local_rank, place.restarts), (3, 4, 1, 2));
        assert_eq!((place.master, place.agent_serves), (("node7".to_owned(), 29500), true));
    }

    #[test]
    fn a_place_that_is_half_set_is_refused_by_the_name_of_the_variable() {
        let message = |variables: &[(&str, &str)]| read(variables).unwrap_err().to_string();
        assert!(message(&[("WORLD_SIZE", "2")]).contains("RANK is not"));
        assert!(message(&[("WORLD_SIZE", "2"), ("RANK", "2")]).contains("RANK must be from 0 to 1, not '2'"));
        assert!(message(&[("WORLD_SIZE", "no"), ("RANK", "0")]).contains("WORLD_SIZE must be"));
        assert!(message(&[("WORLD_SIZE", "2"), ("RANK", "0")]).contains("MASTER_ADDR is not"));
    }

    #[cfg(feature = "distributed")]
    #[test]
    fn a_process_connected_to_itself_sums_over_one() {
        let world = World::connected_to_itself().unwrap();
        let tensor = Tensor::from_slice(&[1f32, 2.0]);
        world.sum_(&tensor).unwrap();
        world.broadcast_(&tensor, 0).unwrap();
        assert_eq!(tensor, Tensor::from_slice(&[1f32, 2.0]));
        assert_eq!(world.traffic().calls, 2);
    }

    #[test]
    fn nothing_changes_in_a_world_of_one() {
        let tensor = Tensor::from_slice(&[1f32, 2.0]);
        let world = World::alone();
        world.sum_(&tensor).unwrap();
        assert_eq!(tensor, Tensor::from_slice(&[1f32, 2.0]));
        assert_eq!(world.gather(&[1, 2]).unwrap(), [[1, 2]]);
        assert_eq!(world.traffic(), Traffic::default());
    }
}
