//! The list of a backup's blobs: JSON lines in zstd, sorted by name. Must never unpack more than a list may have.

use std::io::{BufRead, BufReader, Read, Write};

use super::manifest::BlobLine;
use crate::blobs::BlobHash;
use crate::limits::{BACKUP_BLOB_LINE_BYTES_MAX, BACKUP_BLOB_LIST_BYTES_MAX, BACKUP_ZSTD_LEVEL};

/// A line of a list, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBlob {
    /// The blob.
    pub hash: BlobHash,
    /// What the line says.
    pub line: BlobLine,
}

/// Writes a list.
///
/// # Errors
/// What the output says.
pub fn write_blob_list(out: impl Write, lines: &[BlobLine]) -> std::io::Result<()> {
    let mut packer = zstd::stream::write::Encoder::new(out, BACKUP_ZSTD_LEVEL)?;
    for line in lines {
        serde_json::to_writer(&mut packer, line)?;
        packer.write_all(b"\n")?;
    }
    packer.finish()?.flush()
}

/// Reads a list and calls `visit` for every blob; gives how many there are.
///
/// # Errors
/// What is wrong with it, for people.
pub fn read_blob_list(source: impl Read, mut visit: impl FnMut(ListedBlob)) -> Result<u64, String> {
    let unpacked = zstd::stream::read::Decoder::new(source).map_err(|e| e.to_string())?;
    let mut lines = BufReader::new(unpacked.take(BACKUP_BLOB_LIST_BYTES_MAX));
    let (mut count, mut text) = (0, String::new());
    loop {
        text.clear();
        let bytes = (&mut lines).take(BACKUP_BLOB_LINE_BYTES_MAX).read_line(&mut text).map_err(|e| e.to_string())?;
        if bytes == 0 {
            return Ok(count);
        }
        count += 1;
        let wrong = |what: String| format!("line {count}: {what}");
        let Some(json) = text.strip_suffix('\n') else { return Err(wrong("it does not end".to_owned())) };
        let line: BlobLine = serde_json::from_str(json).map_err(|e| wrong(e.to_string()))?;
        let hash = line.blob.parse().map_err(|_| wrong("it does not name a blob".to_owned()))?;
        visit(ListedBlob { hash, line });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(content: &[u8]) -> BlobLine {
        let hash = BlobHash::of(content).to_string();
        BlobLine { blob: hash.clone(), bytes: content.len() as u64, size: content.len() as u64, blake3: hash }
    }

    #[test]
    fn a_list_comes_back_and_a_cut_or_foreign_one_is_refused() {
        let lines = [line(b"a"), line(b"b")];
        let mut packed = Vec::new();
        write_blob_list(&mut packed, &lines).unwrap();
        let mut read = Vec::new();
        assert_eq!(read_blob_list(&packed[..], |blob| read.push(blob.line)), Ok(2));
        assert_eq!(read, lines);
        assert!(read_blob_list(&packed[..packed.len() - 3], |_| {}).is_err());
        for text in
            ["x\n", "{}\n", "{\"blob\":\"../../x\",\"bytes\":1,\"size\":1,\"blake3\":\"\"}\n", &"9".repeat(5_000)]
        {
            let packed = zstd::encode_all(text.as_bytes(), 1).unwrap();
            assert!(read_blob_list(&packed[..], |_| {}).is_err(), "{text}");
        }
    }
}
