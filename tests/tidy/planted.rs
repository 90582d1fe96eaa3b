//! The bugs that are planted to see whether a test catches them: `tests/planted/run` does that, and takes long. Here is
//! looked whether each still fits, so that none is left behind unnoticed.

use std::fs;
use std::process::Command;

use crate::root;

/// As many as there have to be.
const LEAST: usize = 15;

#[test]
fn planted_bugs_fit() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("tests/planted")).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let patch = fs::read_to_string(&path).expect("a patch can be read");
        for line in ["Bug: ", "Test: -p logd-"] {
            assert!(patch.lines().any(|text| text.starts_with(line)), "`{}` has no `{line}`", path.display());
        }
        let fits = Command::new("git")
            .args(["apply", "--check"])
            .arg(&path)
            .current_dir(root())
            .output()
            .expect("git can be started");
        let said = String::from_utf8_lossy(&fits.stderr);
        assert!(fits.status.success(), "`{}` does not fit any more: {said}", path.display());
        count += 1;
    }
    assert!(count >= LEAST, "there are {count} planted bugs");
}
