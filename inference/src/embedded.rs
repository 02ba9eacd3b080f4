//! The default model, linked into the binary so that it is there wherever the binary is.

/// Block types are read in place, so the bytes start at an address that suits all of them.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!("../embedded/model.gguf"));

/// The embedded model's GGUF file.
pub fn bytes() -> &'static [u8] {
    &MODEL.0
}
