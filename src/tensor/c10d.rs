//! Sums and copies of tensors over processes by libtorch's c10d (`native/world.cpp`): gloo for tensors of the host, NCCL for
//! those of GPUs where the build found its headers. A build without the
//! feature `distributed` has none of it.

use std::time::Duration;

use anyhow::Result;
use tch::Tensor;

/// The way to a group of processes.
#[cfg_attr(not(feature = "distributed"), allow(dead_code))]
pub(super) struct Meeting<'a> {
    /// Machine and port of the store at which all meet.
    pub store: (&'a str, u16),
    /// Whether this process serves the store.
    pub serves: bool,
    /// Beginning of the names in the store.
    pub prefix: &'a str,
    /// Number of this process, and of all.
    pub rank: u64,
    pub size: u64,
    /// Network interface to use; empty for the one of `address`.
    pub interface: &'a str,
    /// Address of this machine.
    pub address: &'a str,
    /// The longest wait for the others to come.
    pub join_timeout: Duration,
    /// The longest wait for another one in a sum.
    pub timeout: Duration,
}

#[cfg(feature = "distributed")]
mod gloo {
    use std::ffi::{CStr, CString, c_char, c_void};

    use anyhow::{Context, anyhow};
    use torch_sys::C_tensor;

    use super::{Meeting, Result, Tensor};
    use crate::tensor::without_backtrace;

    unsafe extern "C" {
        fn rootgan_world_join(
            host: *const c_char,
            port: u16,
            serves: bool,
            rank: i32,
            size: i32,
            prefix: *const c_char,
            interface: *const c_char,
            address: *const c_char,
            join_ms: i64,
            wait_ms: i64,
            out: *mut *mut c_void,
        ) -> *mut c_char;
        fn rootgan_world_has_nccl() -> bool;
        fn rootgan_world_leave(world: *mut c_void);
        fn rootgan_world_sum(world: *mut c_void, tensor: *mut C_tensor) -> *mut c_char;
        fn rootgan_world_broadcast(world: *mut c_void, tensor: *mut C_tensor, root: i32) -> *mut c_char;
        fn rootgan_world_free_text(text: *mut c_char);
    }

    /// A group of processes that are connected to each other.
    #[derive(Debug)]
    pub struct Group(*mut c_void);

    // SAFETY: the C++ side may be used from any thread, one at a time; `Group` is not `Sync`.
    unsafe impl Send for Group {}

    impl Group {
        pub fn join(meeting: &Meeting) -> Result<Self> {
            let text = |text: &str| CString::new(text).context("a zero byte in a name");
            let (host, port) = (text(meeting.store.0)?, meeting.store.1);
            let (prefix, interface) = (text(meeting.prefix)?, text(meeting.interface)?);
            let address = text(meeting.address)?;
            let mut group = std::ptr::null_mut();
            // SAFETY: the texts live until the call returns, which throws nothing and fills `group` in unless it fails.
            let failure = unsafe {
                rootgan_world_join(
                    host.as_ptr(),
                    port,
                    meeting.serves,
                    meeting.rank as i32,
                    meeting.size as i32,
                    prefix.as_ptr(),
                    interface.as_ptr(),
                    address.as_ptr(),
                    meeting.join_timeout.as_millis() as i64,
                    meeting.timeout.as_millis() as i64,
                    &raw mut group,
                )
            };
            outcome(failure).map(|()| Self(group))
        }

        /// Whether tensors of GPUs are sent as they are.
        pub fn takes_gpu_tensors() -> bool {
            // SAFETY: the call only reads a constant.
            unsafe { rootgan_world_has_nccl() }
        }

        pub fn sum(&self, tensor: &Tensor) -> Result<()> {
            // SAFETY: both pointers are valid, and the call throws nothing.
            outcome(unsafe { rootgan_world_sum(self.0, tensor.as_ptr().cast_mut()) })
        }

        pub fn broadcast(&self, tensor: &Tensor, root: u64) -> Result<()> {
            // SAFETY: as above.
            outcome(unsafe { rootgan_world_broadcast(self.0, tensor.as_ptr().cast_mut(), root as i32) })
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            // SAFETY: the pointer came from rootgan_world_join and is not used again.
            unsafe { rootgan_world_leave(self.0) };
        }
    }

    /// Turns the words of a failure into an error of one line.
    fn outcome(failure: *mut c_char) -> Result<()> {
        if failure.is_null() {
            return Ok(());
        }
        // SAFETY: a text that ends with 0, which is freed once.
        let text = unsafe { CStr::from_ptr(failure) }.to_string_lossy().into_owned();
        unsafe { rootgan_world_free_text(failure) };
        Err(anyhow!(without_backtrace(&text).split_whitespace().collect::<Vec<_>>().join(" ")))
    }
}

#[cfg(not(feature = "distributed"))]
mod gloo {
    use anyhow::bail;

    use super::{Meeting, Result, Tensor};

    /// A group of processes, of which this build can have none.
    #[derive(Debug)]
    pub enum Group {}

    impl Group {
        pub fn join(meeting: &Meeting) -> Result<Self> {
            bail!(
                "this build trains in one process only, and {} were started; build it with the feature 'distributed'",
                meeting.size
            )
        }

        pub fn takes_gpu_tensors() -> bool {
            false
        }

        pub fn sum(&self, _: &Tensor) -> Result<()> {
            match *self {}
        }

        pub fn broadcast(&self, _: &Tensor, _: u64) -> Result<()> {
            match *self {}
        }
    }
}

pub(super) use gloo::Group;
