//! JSON lines, plain or gzipped; the content decides, not the file's name.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;

/// One line may not be longer: a file that is not JSON lines must not fill the memory.
const MAX_LINE_BYTES: usize = 256 << 20;

/// The non-blank lines of a file with their numbers, from 1.
pub fn lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let what = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(what)?;
    let mut magic = [0; 2];
    let gzipped = file.read(&mut magic).with_context(what)? == 2 && magic == [0x1f, 0x8b];
    file.seek(SeekFrom::Start(0)).with_context(what)?;
    let reader: Box<dyn Read> = if gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut reader = BufReader::new(reader);
    let mut lines = Vec::new();
    let mut number = 0;
    loop {
        let mut line = Vec::new();
        let count =
            (&mut reader).take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line).with_context(what)?;
        if count == 0 {
            return Ok(lines);
        }
        number += 1;
        if count > MAX_LINE_BYTES {
            anyhow::bail!("{}: line {number} is longer than {MAX_LINE_BYTES} bytes", path.display());
        }
        let line = String::from_utf8(line)
            .with_context(|| format!("{}: line {number} is not UTF-8 text", path.display()))?;
        if !line.trim().is_empty() {
            lines.push((number, line.trim_end_matches(['\r', '\n']).to_owned()));
        }
    }
}
