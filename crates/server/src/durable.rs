//! A file that is whole or not there: written beside its name, flushed, and renamed.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A whole new file in the place of the old one, or the old one. Who may write the same file at the
/// same time must hold a lock.
///
/// # Errors
///
/// When the disk fails: then the old one is there.
pub(crate) fn replace(file: &Path, octets: &[u8]) -> io::Result<()> {
    replace_as(file, octets, 0o644)
}

/// The same of a file that is its owner's only.
///
/// # Errors
///
/// As [`replace`].
pub(crate) fn replace_private(file: &Path, octets: &[u8]) -> io::Result<()> {
    replace_as(file, octets, 0o600)
}

fn replace_as(file: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    let folder = File::open(file.parent().unwrap_or(Path::new("/")))?;
    let mut name = OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(".new");
    let unfinished = file.with_file_name(name);
    // What a crash left.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut new = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
    new.write_all(octets)?;
    new.sync_all()?;
    fs::rename(&unfinished, file)?;
    folder.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{replace, replace_private};

    #[test]
    fn a_file_is_replaced_whole_also_after_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("index.ldif");
        replace(&file, b"first").unwrap();
        std::fs::write(folder.path().join(".index.ldif.new"), "half").unwrap();
        replace(&file, b"second").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace(&folder.path().join("nowhere/file"), b"").is_err());
        replace_private(&file, b"third").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
