//! The bytes of a model file: mapped from disk, or linked into the binary.

use std::{fs::File, ops::Range, path::Path, sync::Arc};

use memmap2::Mmap;

use super::ModelError;

/// All bytes of one model file. Cloning shares them.
#[derive(Clone)]
pub enum Storage {
    Mapped(Arc<Mmap>),
    Static(&'static [u8]),
    /// Weights made in memory: dequantized copies and tests.
    Owned(Arc<AlignedBytes>),
}

/// Heap bytes aligned for every element type.
pub struct AlignedBytes {
    words: Vec<u64>,
    length: usize,
}

impl AlignedBytes {
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self { words, length: bytes.len() }
    }

    pub fn from_floats(values: &[f32]) -> Self {
        Self::copy_of(bytemuck::cast_slice(values))
    }

    fn as_slice(&self) -> &[u8] {
        &bytemuck::cast_slice::<u64, u8>(&self.words)[..self.length]
    }
}

impl Storage {
    /// Maps a file. Pages are read from disk when first touched.
    pub fn map(path: &Path) -> Result<Self, ModelError> {
        let open = |source: std::io::Error| ModelError::Open { path: path.into(), source: Arc::new(source) };
        let file = File::open(path).map_err(open)?;
        if file.metadata().map_err(open)?.is_dir() {
            return Err(open(std::io::Error::other("it is a directory; give the path of a .gguf file")));
        }
        // SAFETY: the map is read-only. As with every mapped file, another process that truncates the file
        // while it is in use can fault us; model files are not edited in place.
        let map = unsafe { Mmap::map(&file) }.map_err(open)?;
        Ok(Self::Mapped(Arc::new(map)))
    }

    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes.as_slice(),
        }
    }
}

/// A range of a [`Storage`]: one tensor's bytes. Holds the storage alive.
#[derive(Clone)]
pub struct Bytes {
    storage: Storage,
    range: Range<usize>,
}

impl Bytes {
    /// `None` when the range is outside the storage.
    pub fn new(storage: &Storage, range: Range<usize>) -> Option<Self> {
        storage.as_slice().get(range.clone())?;
        Some(Self { storage: storage.clone(), range })
    }

    pub fn owned(bytes: AlignedBytes) -> Self {
        let range = 0..bytes.length;
        Self { storage: Storage::Owned(Arc::new(bytes)), range }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.storage.as_slice()[self.range.clone()]
    }
}
