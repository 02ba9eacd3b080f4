//! Opening a device, and what can go wrong with it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use cudarc::driver::{CudaContext, CudaFunction, CudaStream, DeviceRepr, DriverError, result, sys};

use super::kernels::{Code, Kernels};

/// The oldest devices with bf16 tensor cores and asynchronous copies: Ampere.
const OLDEST_CAPABILITY: (i32, i32) = (8, 0);

/// From this driver on a recorded step keeps the permission for kernels to start early: CUDA 12.3.
const EARLY_START_DRIVER: i32 = 12_030;

/// Why a GPU cannot be used, or stopped working.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GpuError {
    #[error("no NVIDIA driver was found (libcuda.so.1); install it, or use the device `cpu`")]
    NoDriver,
    #[error("the NVIDIA driver does not answer: {0}; update it, or use the device `cpu`")]
    Driver(String),
    #[error("there is no GPU {index}, only {count}; choose another with the device `cuda:N`")]
    NoDevice { index: usize, count: usize },
    #[error("the GPU cannot be used: {0}; use the device `cpu`")]
    Unsupported(String),
    #[error(
        "the GPU has {free_mib} MiB free and {needed_mib} MiB are needed for {what}; close other programs that use it, choose a \
         smaller model or context, or use the device `cpu`"
    )]
    OutOfMemory { what: &'static str, needed_mib: usize, free_mib: usize },
    #[error("the GPU failed while {what}: {error}; the driver's log (dmesg) may say why")]
    Failed { what: &'static str, error: String },
}

impl GpuError {
    /// For `map_err`: what was being done when the driver reported an error.
    pub(super) fn during(what: &'static str) -> impl Fn(DriverError) -> Self {
        move |error| Self::Failed { what, error: describe(error) }
    }
}

fn describe(error: DriverError) -> String {
    let text = |text: Result<&std::ffi::CStr, DriverError>| {
        text.ok().map(|text| text.to_string_lossy().into_owned())
    };
    match (text(error.error_name()), text(error.error_string())) {
        (Some(name), Some(meaning)) => format!("{meaning} ({name})"),
        _ => format!("{error:?}"),
    }
}

/// An open device with its kernels and the one stream that everything runs on.
pub struct Gpu {
    pub(super) context: Arc<CudaContext>,
    pub(super) stream: Arc<CudaStream>,
    pub(super) kernels: Kernels,
    pub index: usize,
    pub name: String,
    /// Major and minor.
    capability: (i32, i32),
    pub multiprocessors: usize,
    /// The most dynamic shared memory of a block, bytes.
    pub(super) shared_bytes: usize,
    /// Kernels may start while the one before them still runs: from Hopper on. They wait for it themselves.
    starts_early: bool,
}

impl Gpu {
    /// Opens the device with the number `index`. Takes under a millisecond when there is no driver.
    pub fn open(index: usize) -> Result<Self, GpuError> {
        // SAFETY: only tries to load the driver's library.
        if !unsafe { sys::is_culib_present() } {
            return Err(GpuError::NoDriver);
        }
        // An old driver lacks functions; the bindings panic on the first use of a missing one.
        catch_unwind(AssertUnwindSafe(|| Self::open_present(index)))
            .unwrap_or_else(|_| Err(GpuError::Driver("it lacks functions of CUDA 12".into())))
    }

    fn open_present(index: usize) -> Result<Self, GpuError> {
        let driver = |error: DriverError| GpuError::Driver(describe(error));
        result::init().map_err(driver)?;
        let count = CudaContext::device_count().map_err(driver)? as usize;
        if index >= count {
            return Err(GpuError::NoDevice { index, count });
        }
        let context = CudaContext::new(index).map_err(driver)?;
        // SAFETY: everything runs on one stream, so no events are needed between buffers.
        unsafe { context.disable_event_tracking() };
        let name = context.name().map_err(driver)?;
        let capability = context.compute_capability().map_err(driver)?;
        if capability < OLDEST_CAPABILITY {
            return Err(GpuError::Unsupported(format!(
                "{name} has compute capability {}.{}, and {}.{} is the least that works",
                capability.0, capability.1, OLDEST_CAPABILITY.0, OLDEST_CAPABILITY.1
            )));
        }
        use sys::CUdevice_attribute as Attribute;
        let attribute = |attribute| context.attribute(attribute).map_err(driver);
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize;
        let shared_bytes =
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize;
        let stream = context.new_stream().map_err(driver)?;
        let code = Code::of(capability);
        let kernels = Kernels::load(&context, code, shared_bytes)?;
        let mut version = 0;
        // SAFETY: writes one integer.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(driver)?;
        let starts_early = code == Code::Hopper && version >= EARLY_START_DRIVER;
        Ok(Self {
            context,
            stream,
            kernels,
            index,
            name,
            capability,
            multiprocessors,
            shared_bytes,
            starts_early,
        })
    }

    /// Whether the kernels passed their checks on devices of this kind: so far those that run the code for Hopper.
    pub fn is_verified(&self) -> bool {
        self.capability == (9, 0)
    }

    /// Free and total device memory, bytes.
    pub fn memory(&self) -> Result<(usize, usize), GpuError> {
        self.context.mem_get_info().map_err(GpuError::during("asking for its free memory"))
    }

    /// Waits until the device has done everything asked so far.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        self.stream.synchronize().map_err(GpuError::during("computing"))
    }

    /// Queues a kernel whose only argument is `params`.
    ///
    /// # Safety
    /// `params` must be the structure that the kernel takes, and its addresses must be of live buffers that hold what
    /// the kernel reads and writes with this grid.
    pub(super) unsafe fn launch<P: DeviceRepr>(
        &self,
        function: &CudaFunction,
        grid: [usize; 3],
        threads: u32,
        shared_bytes: usize,
        params: &P,
    ) -> Result<(), GpuError> {
        let mut early = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: grid[0] as u32,
            gridDimY: grid[1] as u32,
            gridDimZ: grid[2] as u32,
            blockDimX: threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: shared_bytes as u32,
            hStream: self.stream.cu_stream(),
            attrs: &mut early,
            numAttrs: u32::from(self.starts_early),
        };
        let failed = GpuError::during("starting a kernel");
        self.context.bind_to_thread().map_err(&failed)?;
        let mut arguments = [std::ptr::from_ref(params).cast_mut().cast()];
        // SAFETY: the caller's promise; the driver copies the argument before it returns.
        unsafe {
            sys::cuLaunchKernelEx(
                &config,
                function.cu_function(),
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        }
        .result()
        .map_err(failed)
    }
}

/// What `lacuna doctor` says of the GPU: its name and memory, or why there is none to use.
pub fn describe_gpu(index: usize) -> Result<String, GpuError> {
    let gpu = Gpu::open(index)?;
    let (free, total) = gpu.memory()?;
    let advice = if gpu.is_verified() {
        ""
    } else {
        "; not verified on this kind of GPU, used with the device `cuda`"
    };
    Ok(format!("{}, {} of {} MiB free{advice}", gpu.name, free >> 20, total >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a machine without a driver or device that is an answer, never a panic.
    #[test]
    fn a_missing_device_is_an_error_with_advice() {
        match Gpu::open(usize::from(u16::MAX)) {
            Ok(_) => panic!("there is no GPU 65535"),
            Err(error) => assert!(error.to_string().contains("device `c"), "{error}"),
        }
    }
}
