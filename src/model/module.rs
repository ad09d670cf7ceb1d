//! A loaded TorchScript module through libtorch's C interface.
//!
//! A call that fails frees its arguments here. `tch::CModule` keeps them for ever, and with images everything that they
//! were computed from, so that after a lack of memory there would be none for another try.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;

use tch::{Device, IValue, TchError, Tensor};
use torch_sys::{C_tensor, CIValue, CModule_};

/// A module of libtorch's.
pub(super) struct Module(*mut CModule_);

// SAFETY: libtorch's modules can be used from any thread.
unsafe impl Send for Module {}
// SAFETY: likewise.
unsafe impl Sync for Module {}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a load and is freed once.
        unsafe { torch_sys::atm_free(self.0) }
    }
}

impl Module {
    /// Loads a file onto a device.
    pub(super) fn load(path: &Path, device: Device) -> Result<Self, TchError> {
        let path = CString::new(path.as_os_str().as_encoded_bytes())?;
        // SAFETY: the string ends in a zero byte and lives on.
        checked(unsafe { torch_sys::atm_load_on_device(path.as_ptr(), device_number(device)) }).map(Self)
    }

    /// Loads the bytes of a file onto a device.
    pub(super) fn load_bytes(bytes: &[u8], device: Device) -> Result<Self, TchError> {
        let (start, length) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: libtorch reads as many bytes as it is told, before it returns.
        checked(unsafe { torch_sys::atm_load_str_on_device(start, length, device_number(device)) }).map(Self)
    }

    /// Calls a method; None, tensors, numbers and strings can be passed.
    pub(super) fn call(&self, method: &str, arguments: &[IValue]) -> Result<IValue, TchError> {
        let name = CString::new(method)?;
        let values: Vec<RawValue> = arguments.iter().map(RawValue::of).collect::<Result<_, _>>()?;
        let pointers: Vec<*mut CIValue> = values.iter().map(|value| value.0).collect();
        let count = pointers.len() as c_int;
        let _gradients = KeptGradMode::now();
        // SAFETY: as many pointers as are said, to values that live until `values` is dropped.
        let result = unsafe {
            match method {
                "forward" => torch_sys::atm_forward_(self.0, pointers.as_ptr(), count),
                _ => torch_sys::atm_method_(self.0, name.as_ptr(), pointers.as_ptr(), count),
            }
        };
        RawValue(checked(result)?).read()
    }

    /// Lists the parameters by name.
    pub(super) fn named_parameters(&self) -> Result<Vec<(String, Tensor)>, TchError> {
        extern "C" fn add(list: *mut c_void, name: *const c_char, tensor: *mut C_tensor) {
            // SAFETY: `list` is the vector below; libtorch hands over a name for the call and a tensor for good.
            let (list, name, tensor) =
                unsafe { (&mut *list.cast::<Vec<(String, Tensor)>>(), CStr::from_ptr(name), Tensor::from_ptr(tensor)) };
            list.push((name.to_string_lossy().into_owned(), tensor));
        }
        let mut list: Vec<(String, Tensor)> = Vec::new();
        // SAFETY: `list` outlives the call.
        unsafe { torch_sys::atm_named_parameters(self.0, (&raw mut list).cast(), add) };
        last_error()?;
        Ok(list)
    }

    /// Saves the module to a file.
    pub(super) fn save(&self, path: &Path) -> Result<(), TchError> {
        let path = CString::new(path.as_os_str().as_encoded_bytes())?;
        // SAFETY: the string ends in a zero byte and lives on.
        unsafe { torch_sys::atm_save(self.0, path.as_ptr()) };
        last_error()
    }
}

/// Whether operations are recorded for gradients, put back when this is dropped: a script may change it.
struct KeptGradMode(c_int);

impl KeptGradMode {
    fn now() -> Self {
        // SAFETY: the call takes a number and returns what was set before.
        let before = unsafe { torch_sys::at_grad_set_enabled(1) };
        let kept = Self(before);
        kept.restore();
        kept
    }

    fn restore(&self) {
        // SAFETY: as above.
        unsafe { torch_sys::at_grad_set_enabled(self.0) };
    }
}

impl Drop for KeptGradMode {
    fn drop(&mut self) {
        self.restore();
    }
}

/// An argument or a result, freed when it is dropped.
struct RawValue(*mut CIValue);

impl Drop for RawValue {
    fn drop(&mut self) {
        // SAFETY: the pointer came from libtorch and is freed once.
        unsafe { torch_sys::ati_free(self.0) }
    }
}

impl RawValue {
    fn of(value: &IValue) -> Result<Self, TchError> {
        // SAFETY: libtorch copies numbers and strings, and shares a tensor.
        let made = unsafe {
            match value {
                IValue::None => torch_sys::ati_none(),
                IValue::Tensor(tensor) => torch_sys::ati_tensor(tensor.as_ptr().cast_mut()),
                IValue::Int(number) => torch_sys::ati_int(*number),
                IValue::Double(number) => torch_sys::ati_double(*number),
                IValue::Bool(truth) => torch_sys::ati_bool(c_int::from(*truth)),
                IValue::String(text) => {
                    let text = CString::new(text.as_str())?;
                    torch_sys::ati_string(text.as_ptr())
                }
                other => return Err(TchError::Kind(format!("cannot pass {other:?} to a script"))),
            }
        };
        checked(made).map(Self)
    }

    fn read(&self) -> Result<IValue, TchError> {
        // SAFETY: the value lives; each accessor is called for its own tag.
        let found = unsafe {
            match torch_sys::ati_tag(self.0) {
                0 => IValue::None,
                1 => IValue::Tensor(Tensor::from_ptr(checked(torch_sys::ati_to_tensor(self.0))?)),
                2 => IValue::Double(torch_sys::ati_to_double(self.0)),
                3 => IValue::Int(torch_sys::ati_to_int(self.0)),
                4 => IValue::Bool(torch_sys::ati_to_bool(self.0) == 1),
                9 => IValue::String(taken_string(checked(torch_sys::ati_to_string(self.0))?)),
                _ => IValue::Tuple(Vec::new()), // Whatever it is, nobody asks for it.
            }
        };
        last_error()?;
        Ok(found)
    }
}

/// Returns the pointer that libtorch made, or the error that it left instead.
fn checked<T>(pointer: *mut T) -> Result<*mut T, TchError> {
    last_error()?;
    if pointer.is_null() { Err(TchError::Torch("libtorch returned nothing".into())) } else { Ok(pointer) }
}

/// Returns the error that the last call left, if any.
fn last_error() -> Result<(), TchError> {
    // SAFETY: libtorch hands the text over to the caller.
    let text = unsafe { torch_sys::get_and_reset_last_err() };
    if text.is_null() {
        return Ok(());
    }
    // SAFETY: a text that ends in a zero byte, ours to free.
    Err(TchError::Torch(unsafe { taken_string(text) }))
}

/// # Safety
/// `text` ends in a zero byte, came from C's allocator and belongs to nobody else.
unsafe fn taken_string(text: *mut c_char) -> String {
    // SAFETY: the caller says so.
    unsafe {
        let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
        libc::free(text.cast());
        owned
    }
}

/// Returns the number of a device in libtorch's C interface.
fn device_number(device: Device) -> c_int {
    match device {
        Device::Cuda(index) => index as c_int,
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::system::memory::resident_bytes;

    #[test]
    fn a_call_that_fails_keeps_nothing_of_its_arguments() {
        const BYTES: u64 = 64 << 20;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/generator.pt");
        let module = Module::load(&path, Device::Cpu).unwrap();
        let fails = || {
            let z = Tensor::ones([BYTES as i64 / 4], (Kind::Float, Device::Cpu));
            module.call("forward", &[IValue::Tensor(z)]).unwrap_err()
        };
        assert!(fails().to_string().contains('z'));
        let before = resident_bytes().0;
        (0..64).for_each(|_| drop(fails()));
        let after = resident_bytes().0;
        // Other tests of this process take and return hundreds of MiB meanwhile, so a quarter of the arguments has to be much.
        assert!(after < before + 16 * BYTES, "{} MiB before, {} MiB after", before >> 20, after >> 20);
    }

    #[test]
    fn what_a_script_cannot_take_is_an_error() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/generator.pt");
        let module = Module::load(&path, Device::Cpu).unwrap();
        assert!(module.call("forward", &[IValue::BoolList(vec![true])]).is_err());
        assert!(module.call("no_such_method", &[]).is_err());
        assert!(matches!(module.call("describe", &[]), Ok(IValue::String(text)) if text.contains("img_resolution")));
        assert!(Module::load(Path::new("/no/such/file.pt"), Device::Cpu).is_err());
    }
}
