//! Reader of GGUF files (versions 2 and 3) over mapped bytes. Everything is bounds-checked: a file is outside input.
//!
//! Source: the GGUF specification in ggml's docs/gguf.md.

use std::ops::Range;

use candle_core::quantized::GgmlDType;
use rustc_hash::FxHashMap;

use super::{Bytes, ModelError, Storage};

const MAX_KEYS: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 16;
const MAX_DIMENSIONS: u32 = 4;
/// Nested arrays do not occur in real files; the bound stops a crafted file from exhausting the stack.
const MAX_ARRAY_DEPTH: usize = 2;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(String),
    Array(Vec<Value>),
}

impl Value {
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Self::Float(value) => Some(value as f32),
            Self::Unsigned(value) => Some(value as f32),
            Self::Signed(value) => Some(value as f32),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }
}

/// One tensor's place in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Outermost first: `[rows, columns]`, the reverse of the file's order.
    pub shape: Vec<usize>,
    pub kind: TensorKind,
    range: Range<usize>,
}

impl TensorInfo {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn byte_length(&self) -> usize {
        self.range.len()
    }
}

/// Element types by GGUF's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorKind(u32);

/// (GGUF number, name, elements a block, bytes a block). Types without a `candle` equivalent are listed so that
/// `inspect` can name them; they cannot be run.
const KINDS: &[(u32, &str, usize, usize, Option<GgmlDType>)] = &[
    (0, "F32", 1, 4, Some(GgmlDType::F32)),
    (1, "F16", 1, 2, Some(GgmlDType::F16)),
    (2, "Q4_0", 32, 18, Some(GgmlDType::Q4_0)),
    (3, "Q4_1", 32, 20, Some(GgmlDType::Q4_1)),
    (6, "Q5_0", 32, 22, Some(GgmlDType::Q5_0)),
    (7, "Q5_1", 32, 24, Some(GgmlDType::Q5_1)),
    (8, "Q8_0", 32, 34, Some(GgmlDType::Q8_0)),
    (10, "Q2_K", 256, 84, Some(GgmlDType::Q2K)),
    (11, "Q3_K", 256, 110, Some(GgmlDType::Q3K)),
    (12, "Q4_K", 256, 144, Some(GgmlDType::Q4K)),
    (13, "Q5_K", 256, 176, Some(GgmlDType::Q5K)),
    (14, "Q6_K", 256, 210, Some(GgmlDType::Q6K)),
    (16, "IQ2_XXS", 256, 66, None),
    (17, "IQ2_XS", 256, 74, None),
    (18, "IQ3_XXS", 256, 98, None),
    (19, "IQ1_S", 256, 50, None),
    (20, "IQ4_NL", 32, 18, None),
    (21, "IQ3_S", 256, 110, None),
    (22, "IQ2_S", 256, 82, None),
    (23, "IQ4_XS", 256, 136, None),
    (30, "BF16", 1, 2, Some(GgmlDType::BF16)),
];

impl TensorKind {
    fn row(self) -> Option<&'static (u32, &'static str, usize, usize, Option<GgmlDType>)> {
        KINDS.iter().find(|row| row.0 == self.0)
    }

    pub fn name(self) -> String {
        self.row().map_or_else(|| format!("type {}", self.0), |row| row.1.to_string())
    }

    /// The type as the matrix kernels know it; `None` when there is no kernel.
    pub fn dtype(self) -> Option<GgmlDType> {
        self.row().and_then(|row| row.4)
    }

    /// (elements, bytes) of a block.
    fn block(self) -> Option<(usize, usize)> {
        self.row().map(|row| (row.2, row.3))
    }
}

/// A parsed file: metadata, tensor directory, and the bytes behind it.
pub struct Gguf {
    name: String,
    version: u32,
    metadata: FxHashMap<String, Value>,
    tensors: FxHashMap<String, TensorInfo>,
    storage: Storage,
}

impl Gguf {
    /// Parses the header. `name` is what error messages call the file.
    pub fn parse(name: &str, storage: Storage) -> Result<Self, ModelError> {
        let bytes = storage.as_slice();
        if bytes.get(..4) != Some(b"GGUF") {
            let found = bytes.iter().take(4).copied().collect();
            return Err(ModelError::NotGguf { name: name.into(), found });
        }
        let mut reader = Reader { name, bytes, position: 4 };
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(ModelError::Version { name: name.into(), version });
        }
        let tensor_count = reader.count(MAX_TENSORS, "tensors")?;
        let key_count = reader.count(MAX_KEYS, "metadata keys")?;
        let mut metadata = FxHashMap::default();
        for _ in 0..key_count {
            let key = reader.string()?;
            let kind = reader.u32()?;
            let value = reader.value(kind, 0)?;
            metadata.insert(key, value);
        }
        let directory = reader.directory(tensor_count)?;
        let alignment = match metadata.get("general.alignment").map(Value::as_u64) {
            None => 32,
            Some(Some(value)) if value.is_power_of_two() && value <= 1 << 20 => value as usize,
            Some(_) => return Err(reader.damaged("general.alignment is not a power of two")),
        };
        let data_start = reader.position.next_multiple_of(alignment);
        let mut tensors = FxHashMap::default();
        for entry in directory {
            let range = reader.place(&entry, data_start)?;
            tensors.insert(entry.name, TensorInfo { shape: entry.shape, kind: entry.kind, range });
        }
        Ok(Self { name: name.into(), version, metadata, tensors, storage })
    }

    /// What error messages call the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn byte_length(&self) -> usize {
        self.storage.as_slice().len()
    }

    pub fn metadata(&self) -> &FxHashMap<String, Value> {
        &self.metadata
    }

    pub fn tensors(&self) -> &FxHashMap<String, TensorInfo> {
        &self.tensors
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    pub fn string(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    pub fn require_string(&self, key: &str) -> Result<&str, ModelError> {
        self.string(key).ok_or_else(|| self.missing(key))
    }

    pub fn usize(&self, key: &str) -> Option<usize> {
        self.get(key).and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok())
    }

    pub fn require_usize(&self, key: &str) -> Result<usize, ModelError> {
        self.usize(key).ok_or_else(|| self.missing(key))
    }

    pub fn f32(&self, key: &str) -> Option<f32> {
        self.get(key).and_then(Value::as_f32)
    }

    pub fn missing(&self, key: &str) -> ModelError {
        ModelError::MissingKey { name: self.name.clone(), key: key.into() }
    }

    /// A tensor's directory entry and bytes.
    pub fn tensor(&self, tensor: &str) -> Option<(&TensorInfo, Bytes)> {
        let info = self.tensors.get(tensor)?;
        Bytes::new(&self.storage, info.range.clone()).map(|bytes| (info, bytes))
    }

    pub fn require_tensor(&self, tensor: &str) -> Result<(&TensorInfo, Bytes), ModelError> {
        self.tensor(tensor).ok_or_else(|| self.missing(tensor))
    }
}

struct DirectoryEntry {
    name: String,
    shape: Vec<usize>,
    kind: TensorKind,
    offset: u64,
}

struct Reader<'a> {
    name: &'a str,
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn damaged(&self, detail: impl Into<String>) -> ModelError {
        ModelError::Damaged { name: self.name.into(), detail: detail.into() }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ModelError> {
        let end = self.position.checked_add(length).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(self.damaged(format!("the header ends at byte {}", self.bytes.len())));
        };
        let slice = &self.bytes[self.position..end];
        self.position = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, ModelError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, ModelError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn count(&mut self, limit: u64, what: &str) -> Result<u64, ModelError> {
        let count = self.u64()?;
        if count > limit {
            return Err(self.damaged(format!("it claims {count} {what}")));
        }
        Ok(count)
    }

    fn string(&mut self) -> Result<String, ModelError> {
        let length = self.u64()?;
        let length = usize::try_from(length).map_err(|_| self.damaged("a string is too long"))?;
        // Vocabularies hold a few tokens that are not UTF-8 in some converters' output; keep them readable.
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, ModelError> {
        Ok(match kind {
            0 => Value::Unsigned(u64::from(self.array::<1>()?[0])),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.array()?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.array()?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.array()?))),
            4 => Value::Unsigned(u64::from(self.u32()?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.array()?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.array()?))),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            8 => Value::String(self.string()?),
            9 if depth < MAX_ARRAY_DEPTH => {
                let element = self.u32()?;
                let count = self.u64()?;
                // Every element takes at least one byte, so a count beyond the file is a lie.
                if count > (self.bytes.len() - self.position) as u64 {
                    return Err(self.damaged(format!("an array claims {count} elements")));
                }
                let mut values = Vec::with_capacity((count as usize).min(1 << 20));
                for _ in 0..count {
                    values.push(self.value(element, depth + 1)?);
                }
                Value::Array(values)
            }
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(self.damaged(format!("unknown metadata type {kind}"))),
        })
    }

    fn directory(&mut self, count: u64) -> Result<Vec<DirectoryEntry>, ModelError> {
        let mut entries = Vec::new();
        for _ in 0..count {
            let name = self.string()?;
            let dimensions = self.u32()?;
            if dimensions > MAX_DIMENSIONS {
                return Err(self.damaged(format!("tensor {name} has {dimensions} dimensions")));
            }
            let mut shape = Vec::new();
            for _ in 0..dimensions {
                let size = self.u64()?;
                shape.push(usize::try_from(size).map_err(|_| self.damaged("a tensor is too large"))?);
            }
            shape.reverse();
            let kind = TensorKind(self.u32()?);
            let offset = self.u64()?;
            entries.push(DirectoryEntry { name, shape, kind, offset });
        }
        Ok(entries)
    }

    /// The tensor's byte range, checked against the file.
    fn place(&self, entry: &DirectoryEntry, data_start: usize) -> Result<Range<usize>, ModelError> {
        let broken = |detail: &str| self.damaged(format!("tensor {}: {detail}", entry.name));
        let Some((block_elements, block_bytes)) = entry.kind.block() else {
            return Err(ModelError::TensorType {
                name: self.name.into(),
                tensor: entry.name.clone(),
                kind: entry.kind.name(),
            });
        };
        let elements = entry.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        let elements = elements.ok_or_else(|| broken("its size overflows"))?;
        let columns = entry.shape.last().copied().unwrap_or(1);
        if !columns.is_multiple_of(block_elements) {
            return Err(broken("its rows are not whole blocks"));
        }
        let length = (elements / block_elements).checked_mul(block_bytes);
        let offset = usize::try_from(entry.offset).ok();
        let start = offset.and_then(|offset| offset.checked_add(data_start));
        let end = start.zip(length).and_then(|(start, length)| start.checked_add(length));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.bytes.len() => Ok(start..end),
            _ => Err(broken("its data lies beyond the end of the file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::weights::storage::AlignedBytes;

    fn string(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    /// A small valid file: every metadata type, one F32 and one Q8_0 tensor.
    fn sample() -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(2u64.to_le_bytes());
        out.extend(5u64.to_le_bytes());
        string(&mut out, "general.architecture");
        out.extend(8u32.to_le_bytes());
        string(&mut out, "qwen2");
        string(&mut out, "a.count");
        out.extend(4u32.to_le_bytes());
        out.extend(7u32.to_le_bytes());
        string(&mut out, "a.base");
        out.extend(6u32.to_le_bytes());
        out.extend(1e4f32.to_le_bytes());
        string(&mut out, "a.flag");
        out.extend(7u32.to_le_bytes());
        out.push(1);
        string(&mut out, "a.words");
        out.extend(9u32.to_le_bytes());
        out.extend(8u32.to_le_bytes());
        out.extend(2u64.to_le_bytes());
        string(&mut out, "é");
        string(&mut out, "");
        for (name, shape, kind, offset) in
            [("norm", &[4u64][..], 0u32, 0u64), ("weight", &[32, 2][..], 8, 32)]
        {
            string(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            for size in shape {
                out.extend(size.to_le_bytes());
            }
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend((0..32 + 68).map(|i| i as u8));
        out
    }

    fn parse(bytes: &[u8]) -> Result<Gguf, ModelError> {
        Gguf::parse("sample", Storage::Owned(Arc::new(AlignedBytes::copy_of(bytes))))
    }

    #[test]
    fn reads_what_was_written() {
        let gguf = parse(&sample()).unwrap();
        assert_eq!(gguf.string("general.architecture"), Some("qwen2"));
        assert_eq!(gguf.usize("a.count"), Some(7));
        assert_eq!(gguf.f32("a.base"), Some(1e4));
        assert_eq!(gguf.get("a.flag").and_then(Value::as_bool), Some(true));
        assert_eq!(gguf.get("a.words").and_then(Value::as_array).map(<[_]>::len), Some(2));
        let (info, bytes) = gguf.tensor("weight").unwrap();
        assert_eq!((info.shape.as_slice(), info.kind.name()), (&[2, 32][..], "Q8_0".to_string()));
        assert_eq!(bytes.as_slice(), (32..100).collect::<Vec<u8>>());
        let (_, bytes) = gguf.tensor("norm").unwrap();
        assert_eq!(bytes.as_slice(), (0..16).collect::<Vec<u8>>());
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let valid = sample();
        let mut newer = valid.clone();
        newer[4] = 9;
        let mut many = valid.clone();
        many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        let cases: &[(&[u8], &str)] = &[
            (b"", "not a GGUF file"),
            (b"PK\x03\x04rest", "not a GGUF file"),
            (&newer, "version 9"),
            (&many, "claims 18446744073709551615 tensors"),
            (&valid[..60], "the header ends at byte 60"),
            (&valid[..valid.len() - 1], "tensor weight: its data lies beyond the end"),
        ];
        for (bytes, expected) in cases {
            let message = parse(bytes).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(expected), "{message:?} does not say {expected:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// Damaged files give an error or a readable file, never a panic or a huge allocation.
        #[test]
        fn damage_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>(), keep in any::<bool>()) {
            let mut bytes = sample();
            for (index, value) in changes {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            if !keep {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(gguf) = parse(&bytes) {
                for name in gguf.tensors().keys() {
                    prop_assert!(gguf.tensor(name).is_some());
                }
            }
        }
    }
}
